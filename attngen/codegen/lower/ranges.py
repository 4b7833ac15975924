"""Key ranges of a query tile over packed sequences, from the closed form that the mask has on one sequence.

A tile inside one sequence sees what it would see there. One that reaches over several sequences sees part of the first,
of the last, and at most everything between: one interval from the first key of the first to the last key of the last.
So bounds are as tight as those of separate sequences wherever sequences are longer than a tile.
"""

from __future__ import annotations

from functools import reduce

from attngen.codegen.analysis import Range, Ranges, build
from attngen.codegen.lower.coordinates import Coordinates
from attngen.codegen.lower.segments import coordinates
from attngen.ir.expr import Expr, const, op, sym
from attngen.ir.nodes import Spec

FIRST, LAST, ZERO = sym("q_first"), sym("q_last"), const(0)
EVERYTHING = Ranges((Range(ZERO, sym("n_k")),), ())


def packed_ranges(ranges: Ranges, spec: Spec, packed_keys: bool) -> Ranges:
    """The ranges over the packed tokens. `ranges` are those of the mask as the spec has it, on one sequence."""
    first, last = _Part(coordinates(spec, FIRST), packed_keys), _Part(coordinates(spec, LAST), packed_keys)
    same = op("eq", first.here.look_up(first.here.names.number), last.here.look_up(last.here.names.number))
    if not ranges.outer:
        return Ranges((), (), complete=ranges.complete)
    starts = [first.written(r.lo) for r in ranges.outer]
    ends = [last.written(r.hi) for r in ranges.outer]
    hull = Range(reduce(build.least, starts), reduce(build.greatest, ends))
    if not packed_keys:
        # Sequences in between may see any of the keys that all of them share.
        hull = Range(ZERO, sym("n_k"))
    outer: list[Range] = []
    for i, (lo, hi) in enumerate(zip(starts, ends, strict=True)):
        # Within one sequence both ends of the tile speak of it, so neither needs to know which is meant.
        whole = hull if i == 0 else Range(ZERO, ZERO)
        lo, hi = (a if a == b else op("where", same, a, b) for a, b in ((lo, whole.lo), (hi, whole.hi)))
        outer.append(Range(first.start(lo), last.end(hi) if i == 0 else op("where", same, last.end(hi), ZERO)))
    inner = tuple(
        Range(first.start(first.written(r.lo)), op("where", same, first.end(first.written(r.hi)), ZERO))
        for r in ranges.inner
    )
    return Ranges(tuple(outer), inner, complete=ranges.complete)


class _Part:
    """The queries of a tile that lie in one sequence: that of its first or of its last query."""

    def __init__(self, here: Coordinates, packed_keys: bool) -> None:
        begin, end = here.q_begin, here.look_up(here.names.q_end)
        self.here = here
        self.packed = packed_keys
        self.values = here.sizes(packed_keys) | {
            "q_first": op("sub", op("maximum", FIRST, begin), begin),
            "q_last": op("sub", op("minimum", LAST, op("sub", end, 1)), begin),
        }

    def written(self, expr: Expr) -> Expr:
        """A bound, counted from the start of the sequence."""
        return self.here.written(expr, self.values)

    def start(self, lo: Expr) -> Expr:
        """The packed position; not beyond the sequence, where an empty range may point."""
        return op("add", self.here.k_begin, build.least(lo, self.here.n_k)) if self.packed else lo

    def end(self, hi: Expr) -> Expr:
        """The packed position; not before the sequence either."""
        return op("add", self.here.k_begin, build.greatest(hi, ZERO)) if self.packed else hi
