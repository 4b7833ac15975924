"""Integers in lanes: what a mask or a score computes for each key has to fit into 32 bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import TYPE_CHECKING

import numpy as np

from attngen.codegen.analysis import Evaluator, LoadBounds
from attngen.codegen.analysis.bounds import assumptions
from attngen.codegen.printers.common import COMPARISON
from attngen.errors import UnsupportedError
from attngen.ir.expr import Expr, Load, Op, op, postorder, rebuild, symbols
from attngen.ir.text_expr import expr_text

if TYPE_CHECKING:
    from attngen.codegen.analysis import Interval

LANE, CAST = 2**31 - 2, 2**30
"""The largest integer of a lane (one more stands for all that is larger), and the largest that a cast gives."""

SATURATING = frozenset({*COMPARISON, "minimum", "maximum", "floordiv"})
KEYS = frozenset({"kv", "kv[0]", "kv[1]", "kv[2]"})
PAIRS = KEYS | {"q", "q[0]", "q[1]", "q[2]"}


def check_lanes(
    expr: Expr,
    where: Expr | None,
    known: Mapping[str, Interval],
    data: LoadBounds,
    read: Set[str],
    varying: Set[str] = KEYS,
) -> None:
    """Raises `UnsupportedError` for an integer that may not fit, for the symbols of a call.

    `data` bounds the tensors and scalars that are named in `read`. `varying`: the symbols that differ between lanes.
    """
    for node, bounds, most in lane_bounds(expr, where, known, data, read, varying):
        lo, hi = float(np.min(bounds.lo)), float(np.max(bounds.hi))
        if -np.inf < lo < -most or most < hi < np.inf:
            raise UnsupportedError(
                f"{expr_text(node)} can reach {lo:.0f} .. {hi:.0f}, which does not fit into the 32-bit integers of "
                "kernels; keep integers that depend on positions smaller, or use backend='reference'",
                source=node.source,
            )


def lane_bounds(
    expr: Expr,
    where: Expr | None,
    known: Mapping[str, Interval],
    data: LoadBounds,
    read: Set[str],
    varying: Set[str] = KEYS,
) -> Iterator[tuple[Expr, Interval, int]]:
    """The integers of lanes, with their bounds and the largest that fits."""
    values = Evaluator(known, data, [] if where is None else assumptions(where))
    for node in _lane_integers(rebuild(expr, _saturated), varying):
        if not symbols(node) <= known.keys():
            continue
        if isinstance(node, Load) and node.tensor not in read:
            continue
        cast = _cast_of(node)
        yield node, values.number(node if cast is None else cast), LANE if cast is None else CAST


def _lane_integers(expr: Expr, varying: Set[str]) -> Iterator[Expr]:
    """The integers of lanes: what differs between them, and what is joined with that where it cannot saturate."""
    for node in postorder(expr):
        if not symbols(node) & varying:
            continue
        if node.type == "int":
            yield node
        if isinstance(node, Op) and node.name not in SATURATING:
            yield from (a for a in node.args if a.type == "int" and not symbols(a) & varying)


def _saturated(node: Expr) -> Expr | None:
    """Casts in lanes saturate, so that an infinity on a path that is not taken stays small."""
    if not isinstance(node, Op) or node.name != "to_int" or node.args[0].type != "float":
        return None
    return op("to_int", op("minimum", op("maximum", node.args[0], float(-CAST)), float(CAST)), source=node.source)


def _cast_of(node: Expr) -> Expr | None:
    """What a cast that `_saturated` made was written of."""
    match node:
        case Op(name="to_int", args=(Op(name="minimum", args=(Op(name="maximum", args=(inner, _)), _)),)):
            return inner
        case _:
            return None
