"""How q, k and v of a kernel, (B, H, N, D), are had from tensors of the user: by views that copy nothing.

Copies made for grouped heads (`repeat_interleave`, `expand`) and casts to float32 that the kernel does not need are
looked through: it reads what was there before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from attngen.ir.expr import Const, Expr, Op, Sym, sym
from attngen.lift.indices import Indices, Unclear, number
from attngen.lift.nodes import called, example, is_tensor, shape
from attngen.lift.views import BROADCASTS, viewed

if TYPE_CHECKING:
    from torch.fx import Node

WIDTH = sym("d")
"""Stands for the index along the head dimension."""
CASTS = frozenset({"float", "to", "type", "type_as", "double"})

Step = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor of the user, and the methods that make it (B, H, N, D)."""

    node: Node
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One dimension: `symbol // divisor % modulus`, where b or h is made of several dimensions."""

    symbol: str
    divisor: int
    modulus: int | None
    size: Any
    dim: int


def operand(node: Node, index: Indices, position: Expr, dtype: Any) -> Operand | None:
    """The operand whose element (b, h, position, d) is at `index` of the node; None where its layout is another one."""
    best: Operand | None = None
    crossed = False
    while True:
        found = arranged(node, index, position)
        if found is not None and (crossed or best is None or len(found.steps) < len(best.steps)):
            best, crossed = found, False
        moved = viewed(node, index)
        if moved is None:
            under = _uncast(node, dtype)
            if under is None:
                return best
            node, crossed = under, True
        else:
            crossed = crossed or called(node) in BROADCASTS
            node, index = moved


def _uncast(node: Node, dtype: Any) -> Node | None:
    """What was cast to a wider type, where it has the type of the result already."""
    x: Any = node.args[0] if called(node) in CASTS and node.args else None
    if not is_tensor(x) or example(x).dtype != dtype or not example(node).dtype.is_floating_point:
        return None
    return x if example(node).dtype.itemsize >= example(x).dtype.itemsize else None


def arranged(node: Node, index: Indices, position: Expr) -> Operand | None:
    """The operand, if every dimension is a part of b or h, the position, the width, or fixed."""
    try:
        return _arranged(node, index, position)
    except Unclear:
        return None


def _arranged(node: Node, index: Indices, position: Expr) -> Operand | None:
    steps: list[Step] = []
    kept: list[tuple[Expr, Any]] = []
    for dim, (each, size) in reversed(list(enumerate(zip(index, shape(node), strict=True)))):
        if isinstance(each, Const):
            steps.append(("select", (dim, int(each.value))))
        else:
            kept.insert(0, (each, size))
    split = [i for i, (each, _) in enumerate(kept) if _joined(each) is not None]
    for i in reversed(split):
        inner = _joined(kept[i][0])
        assert inner is not None
        steps.append(("unflatten", (i, (-1, inner))))
        kept[i : i + 1] = [(sym("b"), kept[i][1]), (sym("h"), inner)]
    parts = [_part(each, size, i) for i, (each, size) in enumerate(kept)]
    places = [i for i, (each, _) in enumerate(kept) if each == position]
    widths = [i for i, (each, _) in enumerate(kept) if each == WIDTH]
    others = {i for i, part in enumerate(parts) if part is not None}
    if len(widths) != 1 or len(places) > 1 or len(others) + len(places) + 1 != len(kept):
        return None
    batches, heads = (_ordered([p for p in parts if p is not None and p.symbol == name]) for name in ("b", "h"))
    if batches is None or heads is None or (batches and batches[-1].divisor != 1):
        return None
    order = (*(p.dim for p in (*batches, *heads)), *places, *widths)
    if order != tuple(range(len(kept))):
        steps.append(("permute", order))
    steps += _joins(len(batches), len(heads), len(places))
    return Operand(node, tuple(steps))


def _joins(batches: int, heads: int, places: int) -> list[Step]:
    """From several dimensions of batches and heads, or none, to one of each."""
    steps: list[Step] = []
    if heads > 1:
        steps.append(("flatten", (batches, batches + heads - 1)))
    if heads == 0:
        steps.append(("unsqueeze", (batches,)))
    if batches > 1:
        steps.append(("flatten", (0, batches - 1)))
    if batches == 0:
        steps.append(("unsqueeze", (0,)))
    if places == 0:
        steps.append(("unsqueeze", (2,)))
    return steps


def _joined(expr: Expr) -> int | None:
    """m of `b * m + h`: batches and heads in one dimension."""
    match expr:
        case Op(name="add", args=(Op(name="mul", args=(Sym(name="b"), Const(value=m))), Sym(name="h"))):
            return int(m)
    return None


def _part(expr: Expr, size: Any, dim: int) -> Part | None:
    match expr:
        case Sym(name="b" | "h" as name):
            return Part(name, 1, None, size, dim)
        case Op(name="floordiv", args=(Sym(name="b" | "h" as name), Const(value=c))):
            return Part(name, int(c), None, size, dim)
        case Op(name="mod", args=(Sym(name="b" | "h" as name), Const(value=m))):
            return Part(name, 1, int(m), size, dim)
        case Op(
            name="mod", args=(Op(name="floordiv", args=(Sym(name="b" | "h" as name), Const(value=c))), Const(value=m))
        ):
            return Part(name, int(c), int(m), size, dim)
    return None


def _ordered(parts: list[Part]) -> list[Part] | None:
    """The parts from the outermost in, if together they are the whole index, up to a division: grouped heads."""
    order = sorted(parts, key=lambda p: -p.divisor)
    for outer, inner in pairwise(order):
        if outer.divisor != inner.divisor * number(inner.size) or inner.modulus != number(inner.size):
            return None
    if order and order[0].modulus is not None:
        return None
    return order


def cast(given: Operand, dtype: Any) -> Operand:
    """The operand in the dtype of the result."""
    if example(given.node).dtype == dtype:
        return given
    return replace(given, steps=(*given.steps, ("to", (dtype,))))
