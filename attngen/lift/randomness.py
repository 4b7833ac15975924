"""Dropout: the same distribution from a counter, with a seed that torch's generator draws anew at every call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attngen.ir.expr import Expr, const, load, op
from attngen.lift.blocked import blocked
from attngen.lift.nodes import called

if TYPE_CHECKING:
    from torch.fx import Node

    from attngen.lift.elements import Elements
    from attngen.lift.indices import Indices


def dropped(reader: Elements, node: Node, index: Indices) -> Expr | None:
    """The element of a dropout over scores or weights; None for other nodes."""
    if called(node) not in ("dropout", "native_dropout"):
        return None
    arguments: Any = node.args
    options: Any = node.kwargs
    return _dropout(reader, node, index, *arguments, **options)


def _dropout(
    reader: Elements, node: Node, index: Indices, input: Node, p: Any = 0.5, train: Any = True, inplace: Any = False,
    training: Any = True,
) -> Expr | None:  # fmt: skip
    value = reader.at(input, index)
    if train is False or training is False or p == 0:
        return value
    if not reader.is_score(value):
        return None
    return op("mul", value, keep(reader, p, node))


def keep(reader: Elements, p: Any, node: Node) -> Expr:
    """1 / (1 - p) with probability 1 - p, else 0."""
    if not isinstance(p, float) or not 0 <= p < 1:
        raise blocked(f"dropout with p = {p}; a kernel takes a constant 0 <= p < 1", node)
    here = reader.lines.source
    seed = load(reader.draw(), (const(0),), "int", here)
    drawn = op("ge", op("uniform", seed, source=here), const(p), source=here)
    return op("where", drawn, const(1.0 / (1.0 - p)), const(0.0), source=here)
