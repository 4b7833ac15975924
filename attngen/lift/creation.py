"""Tensors made of positions and constants: `arange`, `ones`, `full`, and the triangles of a matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attngen.ir.expr import Expr, const
from attngen.lift.nodes import called

if TYPE_CHECKING:
    from torch.fx import Node

    from attngen.lift.elements import Elements
    from attngen.lift.indices import Indices


def created(reader: Elements, node: Node, index: Indices) -> Expr | None:
    """The element of a tensor that is made of positions and constants; None for other nodes."""
    rule = RULES.get(called(node))
    if rule is None:
        return None
    arguments = [a for a in node.args if not isinstance(a, str)]
    options = {key: value for key, value in node.kwargs.items() if key not in IGNORED}
    return rule(reader, node, index, *arguments, **options)


IGNORED = frozenset({"dtype", "device", "layout", "requires_grad", "pin_memory", "memory_format", "out"})


def _arange(reader: Elements, node: Node, index: Indices, *ends: Any, **named: Any) -> Expr:
    start, step = named.get("start", 0), named.get("step", 1)
    if len(ends) >= 2:
        start = ends[0]
    if len(ends) == 3:
        step = ends[2]
    op = reader.lines.op
    value = index[0]
    if not (isinstance(step, int) and step == 1):
        value = op("mul", value, reader.scalar(step))
    if not (isinstance(start, int) and start == 0):
        value = op("add", value, reader.scalar(start))
    return reader.typed(node, value)


def _constant(value: float) -> Callable[..., Expr]:
    return lambda reader, node, index, *args, **options: reader.typed(node, const(value))


def _full(reader: Elements, node: Node, index: Indices, *args: Any, **options: Any) -> Expr:
    value = options.get("fill_value", args[-1] if args else 0)
    return reader.typed(node, reader.number(value))


def _triangle(keep: str) -> Callable[..., Expr]:
    def rule(reader: Elements, node: Node, index: Indices, x: Any, diagonal: Any = 0) -> Expr:
        op = reader.lines.op
        row, column = index[-2:]
        kept = op(keep, column, op("add", row, reader.scalar(diagonal)))
        value = reader.at(x, index)
        if value.type == "bool":
            return op("and", value, kept)
        return op("where", kept, value, const(0 if value.type == "int" else 0.0))

    return rule


RULES: dict[str, Callable[..., Expr]] = {
    "arange": _arange,
    **dict.fromkeys(("zeros", "zeros_like", "new_zeros"), _constant(0)),
    **dict.fromkeys(("ones", "ones_like", "new_ones"), _constant(1)),
    **dict.fromkeys(("full", "full_like", "new_full"), _full),
    "tril": _triangle("le"),
    "triu": _triangle("ge"),
}
GRIDS = frozenset(RULES)
"""What makes positions and constants; everything above them can be computed inside of a kernel."""
