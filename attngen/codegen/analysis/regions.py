"""Sets of keys as unions of intervals with symbolic ends: intersection, union, and their normal form."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from attngen.codegen.analysis import build
from attngen.codegen.analysis.affine import affine
from attngen.codegen.analysis.build import FALSE, TRUE, ZERO
from attngen.codegen.analysis.prove import at_most
from attngen.ir.expr import Const, Expr

MOST_PARTS = 16
MOST_INTERVALS = 4


@dataclass(frozen=True, slots=True)
class Part:
    """The keys lo <= kv < hi where `guard` holds, else none; 0 <= lo and hi <= the number of keys."""

    lo: Expr
    hi: Expr
    guard: Expr = TRUE

    def is_empty(self) -> bool:
        """Whether it is proven to hold no key."""
        return self.guard == FALSE or at_most(self.hi, self.lo)

    def covers(self, other: Part) -> bool:
        """Whether it is proven to hold every key of another part."""
        same = self.guard in (TRUE, other.guard)
        return same and at_most(self.lo, other.lo) and at_most(other.hi, self.hi)


Region = tuple[Part, ...]
"""A union of parts."""


def intersection(a: Region, b: Region) -> Region:
    """The keys in both."""
    parts = [
        Part(build.greatest(x.lo, y.lo), build.least(x.hi, y.hi), build.both(x.guard, y.guard))
        for x, y in product(a, b)
    ]
    return _pruned(parts)


def union(a: Region, b: Region) -> Region:
    """The keys in either."""
    return _pruned([*a, *b])


def _pruned(parts: list[Part]) -> Region:
    kept: list[Part] = []
    for part in parts:
        if not part.is_empty() and not any(k.covers(part) for k in kept):
            kept = [*(k for k in kept if not part.covers(k)), part]
    return tuple(kept)


def guarded(region: Region, condition: Expr) -> Region:
    """The region where the condition holds, else nothing."""
    return _pruned([Part(p.lo, p.hi, build.both(p.guard, condition)) for p in region])


def unguarded(region: Region, end: Expr, inner: bool) -> tuple[Part, ...]:
    """At most four parts, without guards, in ascending order, disjoint.

    Beyond four, an outer region merges neighbours and an inner one drops what comes last.
    """
    parts = [_plain(p) for p in region]
    parts = _fused(parts)
    if len(parts) > MOST_INTERVALS:
        parts = parts[:MOST_INTERVALS] if inner else _hulls(parts)
    parts = _sorted(parts)
    return tuple(_grown(parts)) if inner else _disjoint(parts)


def _plain(p: Part) -> Part:
    """No key at all where the guard fails: [lo, 0)."""
    return Part(p.lo, build.select(p.guard, p.hi, ZERO))


def _fused(parts: list[Part]) -> list[Part]:
    """Unions of two parts that are one interval for certain: the same start, the same end, or an overlap."""
    for i, a in enumerate(parts):
        for j, b in enumerate(parts):
            if i == j:
                continue
            fused = None
            if a.lo == b.lo or (at_most(a.lo, b.lo) and at_most(b.lo, a.hi)):
                fused = Part(a.lo, build.greatest(a.hi, b.hi))
            elif a.hi == b.hi:
                fused = Part(build.least(a.lo, b.lo), a.hi)
            if fused is not None:
                return _fused([fused, *(p for k, p in enumerate(parts) if k not in (i, j))])
    return parts


def _hulls(parts: list[Part]) -> list[Part]:
    while len(parts) > MOST_INTERVALS:
        a, b, *rest = parts
        parts = [*rest, Part(build.least(a.lo, b.lo), build.greatest(a.hi, b.hi))]
    return parts


def _sorted(parts: list[Part]) -> list[Part]:
    """Ascending starts: by proof where the order is known, else by a network of exchanges."""
    result = list(parts)
    for end in range(len(result) - 1, 0, -1):
        for i in range(end):
            result[i], result[i + 1] = _exchanged(result[i], result[i + 1])
    return result


def _exchanged(a: Part, b: Part) -> tuple[Part, Part]:
    if at_most(a.lo, b.lo):
        return a, b
    if at_most(b.lo, a.lo):
        return b, a
    in_order = build.not_positive(affine(a.lo) - affine(b.lo))
    return (
        Part(build.least(a.lo, b.lo), build.select(in_order, a.hi, b.hi)),
        Part(build.greatest(a.lo, b.lo), build.select(in_order, b.hi, a.hi)),
    )


def _grown(parts: list[Part]) -> list[Part]:
    """A part that a later one touches takes it over, so that a tile across the seam lies inside one part."""
    result = list(parts)
    for i in range(len(result) - 2, -1, -1):
        for j in range(i + 1, len(result)):
            a, b = result[i], result[j]
            touching = build.not_positive(affine(b.lo) - affine(a.hi))
            result[i] = Part(a.lo, build.select(touching, build.greatest(a.hi, b.hi), a.hi))
            result[j] = Part(b.lo, build.select(touching, ZERO, b.hi))
    return [p for p in result if not p.is_empty()]


def _disjoint(parts: list[Part]) -> tuple[Part, ...]:
    result: list[Part] = []
    reached: Expr = ZERO
    for part in parts:
        part = Part(build.greatest(part.lo, reached), part.hi)
        if not part.is_empty():
            result.append(part)
            reached = build.greatest(reached, part.hi)
    return tuple(result)


def everything(end: Expr) -> Region:
    """All keys."""
    return (Part(ZERO, end),)


def is_everything(parts: tuple[Part, ...], end: Expr) -> bool:
    """Whether the region is all keys, without a condition."""
    return any(p.lo == Const("int", 0) and p.hi == end and p.guard == TRUE for p in parts)
