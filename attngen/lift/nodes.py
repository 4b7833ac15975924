"""What is known about a node of torch's graph: what it calls, its value without data, the user's line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from attngen.errors import Source
from attngen.frontend import positions
from attngen.frontend.dispatch import name_of

if TYPE_CHECKING:
    from torch.fx import Node

LINE = re.compile(r'File "(.+)", line (\d+)')
NAMES = {"and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor"}


def example(node: Any) -> Any:
    """The value of a node as the tracer saw it: a tensor without data, a symbolic number; a constant itself."""
    return node.meta.get("example_value") if isinstance(node, torch.fx.Node) else node


def is_tensor(node: Any) -> bool:
    """Whether a node, or an argument, is one tensor."""
    return isinstance(node, torch.fx.Node) and isinstance(example(node), torch.Tensor)


def shape(node: Node) -> tuple[Any, ...]:
    """The sizes of a tensor: ints, and symbols where lengths are dynamic."""
    return tuple(example(node).shape)


def called(node: Node) -> str:
    """The plain name of what a node calls: "softmax" for torch.softmax, F.softmax and x.softmax; "" for an input."""
    if node.op == "call_method":
        return str(node.target)
    if node.op != "call_function":
        return ""
    name = name_of(node.target)
    return NAMES.get(name, name)


def source(node: Node) -> Source | None:
    """The user's line: the innermost frame outside of torch."""
    found = LINE.findall(node.stack_trace or "")
    own = [place for place in found if "/torch/" not in place[0]] or found
    return positions.of_line(own[-1][0], int(own[-1][1])) if own else None


def size_key(size: Any) -> Any:
    """A size as something to compare without a guard: the number, or the expression of its symbol."""
    if isinstance(size, torch.SymInt):
        expr = size.node.expr
        return int(expr) if expr.is_number else expr
    return size


def same(a: Any, b: Any) -> bool:
    """Whether two sizes are known to be equal."""
    return bool(size_key(a) == size_key(b))


def is_one(size: Any) -> bool:
    """Whether a size is known to be 1; dynamic sizes never are."""
    return bool(size_key(size) == 1)
