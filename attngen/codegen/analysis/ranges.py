"""Closed-form key ranges of a query tile: loop bounds that a kernel computes from lengths and scalars of the call.

`outer` covers every key that some query of the tile sees; a key tile inside one interval of `inner` is seen by all of
them. Both are written over b, h, q_first, q_last (clipped to n_q - 1), sizes, run-time scalars and tensors indexed by b
and h.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from attngen.codegen.analysis import build, regions
from attngen.codegen.analysis import frame as frames
from attngen.codegen.analysis.affine import affine
from attngen.codegen.analysis.frame import KEYS, QUERIES, Frame, depends_on
from attngen.codegen.analysis.regions import Part
from attngen.codegen.analysis.solve import Solver
from attngen.ir.expr import Expr, Op, const, load, loads, op, substitute, sym, symbols
from attngen.ir.nodes import Grid, Paged, Sequence, Space

SEQUENCE = Sequence()


class Range(NamedTuple):
    """The keys lo <= kv < hi; none where lo >= hi. 0 <= lo, and hi is at most the number of keys."""

    lo: Expr
    hi: Expr


@dataclass(frozen=True, slots=True)
class AxisRanges:
    """Ranges of one coordinate of the keys, over q_first[i] and q_last[i]."""

    outer: tuple[Range, ...]
    inner: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Ranges:
    """Key ranges of a query tile; at most four of each kind, in ascending order and disjoint.

    `axes` holds the ranges of each coordinate where the mask of a grid is a conjunction of conditions on one axis each:
    the keys lie in the product of the outer ranges, and the product of one inner range per axis is full. `complete`
    means that no condition was given up: a block table cannot be much tighter.
    """

    outer: tuple[Range, ...]
    inner: tuple[Range, ...]
    axes: tuple[AxisRanges, ...] = ()
    complete: bool = True


def whole_mask(mask: Expr, space: Space) -> Expr:
    """The mask with what the space itself hides: keys past the length of a paged sequence."""
    if isinstance(space, Paged):
        return op("and", mask, op("lt", sym("kv"), load(space.lengths, (sym("b"),), "int")))
    return mask


@lru_cache(maxsize=512)
def closed_form(mask: Expr, space: Space = SEQUENCE) -> Ranges | None:
    """The key ranges of a query tile, or None where a block table gives a tighter schedule.

    That is so where the mask loads data by query or key, or where a condition was given up that is on blocks of keys,
    or beside which nothing restricts the keys.
    """
    mask = whole_mask(mask, space)
    if any(depends_on(index, KEYS | QUERIES) for one in loads(mask) for index in one.indices):
        return None
    axes = _axes(mask, space) if isinstance(space, Grid) else ()
    flattened = flattened_mask(mask, space)
    outer, some = _solved(flattened, frames.flat(), every=False)
    inner, all_ = _solved(flattened, frames.flat(), every=True)
    opaque, blocks = some.opaque or all_.opaque, some.blocks or all_.blocks
    end = sym("n_k")
    if opaque and not axes and (blocks or any(r.lo == const(0) and r.hi == end for r in outer)):
        return None
    return Ranges(outer, inner, axes, complete=not opaque)


def flattened_mask(mask: Expr, space: Space) -> Expr:
    """The mask of a grid with coordinates written through the flat positions."""
    values = {**frames.coordinates(space, "q"), **frames.coordinates(space, "kv")}
    return substitute(mask, values) if values else mask


def _solved(mask: Expr, frame: Frame, every: bool) -> tuple[tuple[Range, ...], Solver]:
    solver = Solver(frame, every)
    parts = regions.unguarded(solver.solve(mask), frame.end, inner=every)
    if frame.assumed:
        parts = _unless_assumed(parts, frame, every)
    return tuple(Range(p.lo, p.hi) for p in parts), solver


def _unless_assumed(parts: tuple[Part, ...], frame: Frame, every: bool) -> tuple[Part, ...]:
    """Where a run-time divisor is not positive: every key in the first outer part, no key in the inner ones."""
    holds: Expr = build.TRUE
    for factor in frame.assumed:
        holds = build.both(holds, build.not_positive(-affine(factor) + 1))
    if not every and not parts:
        return (Part(build.ZERO, build.select(holds, build.ZERO, frame.end)),)
    result = [Part(p.lo, build.select(holds, p.hi, build.ZERO)) for p in parts]
    if not every:
        first = parts[0]
        result[0] = Part(build.select(holds, first.lo, build.ZERO), build.select(holds, first.hi, frame.end))
    return tuple(result)


def conjuncts(e: Expr) -> list[Expr]:
    """The conditions that a conjunction joins."""
    match e:
        case Op(name="and", args=(a, b)):
            return [*conjuncts(a), *conjuncts(b)]
        case Op(name="not", args=(Op(name="or", args=(a, b)),)):
            return [*conjuncts(op("not", a)), *conjuncts(op("not", b))]
        case _:
            return [e]


def by_axis(mask: Expr, space: Grid) -> list[Expr] | None:
    """One condition for each axis, or None where a condition concerns several axes or flat positions."""
    result: list[Expr] = [const(True) for _ in space.dims]
    for part in conjuncts(mask):
        used = symbols(part) & (KEYS | QUERIES)
        if len(space.dims) == 1:
            part = substitute(part, {"q": sym("q[0]"), "kv": sym("kv[0]")})
            used = frozenset({"q[0]"})
        owners = {int(name[-2]) if "[" in name else -1 for name in used} or {0}
        if len(owners) > 1 or -1 in owners:
            return None
        i = owners.pop()
        result[i] = part if result[i] == const(True) else op("and", result[i], part)
    return result


def _axes(mask: Expr, space: Grid) -> tuple[AxisRanges, ...]:
    conditions = by_axis(mask, space)
    if conditions is None:
        return ()
    found = []
    for i, condition in enumerate(conditions):
        frame = frames.axis(space, i)
        found.append(AxisRanges(_solved(condition, frame, False)[0], _solved(condition, frame, True)[0]))
    return tuple(found)


@lru_cache(maxsize=512)
def visible_count(mask: Expr, space: Space = SEQUENCE) -> Expr | None:
    """How many keys a row sees, over b, h, q (or q[i]), sizes and loads; None where that has no closed form."""
    mask = whole_mask(mask, space)
    if isinstance(space, Grid):
        conditions = by_axis(mask, space)
        if conditions is not None:
            counts = [_count(c, frames.axis(space, i, row=True)) for i, c in enumerate(conditions)]
            total: Expr = const(1)
            for count in counts:
                if count is None:
                    return None
                total = count if total == const(1) else op("mul", total, count)
            return total
    return _count(flattened_mask(mask, space), frames.flat(row=True))


def _count(mask: Expr, frame: Frame) -> Expr | None:
    count = _count_assuming(mask, frame)
    if count is None or not frame.assumed:
        return count
    if len(frame.assumed) > 1:
        return None
    (factor,) = frame.assumed
    other = _count_assuming(mask, replace(frame, negative=frozenset({factor}), assumed={}))
    return None if other is None else build.select(build.not_positive(-affine(factor) + 1), count, other)


def _count_assuming(mask: Expr, frame: Frame) -> Expr | None:
    solver = Solver(frame, every=False)
    region = solver.solve(mask)
    if solver.inexact or len(region) > regions.MOST_INTERVALS:
        return None
    total: Expr = const(0)
    for part in regions.unguarded(region, frame.end, inner=False):
        total = build.plus(total, build.greatest(build.minus(part.hi, part.lo), const(0)))
    return total
