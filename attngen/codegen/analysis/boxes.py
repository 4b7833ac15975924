"""What boxes of a shape visit on a grid, simulated axis by axis: the choice of tile shapes, and what `explain` shows.

The keys of a query tile are a product of ranges of the axes, so the number of visited tiles is a product of numbers
that one axis has; so is that of full ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from attngen.codegen.analysis.evaluate import Evaluator
from attngen.codegen.analysis.interval import Interval, ints
from attngen.codegen.analysis.loads import LoadBounds, unknown
from attngen.codegen.analysis.ranges import AxisRanges, Range
from attngen.codegen.boxes import Boxes

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BoxVisits:
    """Pairs of a query tile and a key tile that are boxes: how many there are, are visited, and are full by proof.

    Of one head, or of several.
    """

    boxes: Boxes
    tiles: int
    visited: int
    full: int

    @property
    def pairs(self) -> int:
        """Pairs of tokens in visited tiles."""
        return self.visited * self.boxes.volume**2

    @property
    def bound(self) -> float:
        """How much faster than dense attention the visited tiles could make a kernel."""
        heads = self.tiles / prod(self.boxes.counts) ** 2
        return heads * prod(self.boxes.dims) ** 2 / max(1, self.pairs)


def box_visits(
    axes: tuple[AxisRanges, ...],
    boxes: Boxes,
    symbols: Mapping[str, Interval] | None = None,
    loads: LoadBounds = unknown,
) -> BoxVisits | None:
    """The visits of one batch and head, or None where bounds are not known: `symbols` and `loads` give what they read
    besides queries."""
    visited = full = 1
    for i, axis in enumerate(axes):
        found = _of_axis(axis, i, boxes, symbols or {}, loads)
        if found is None:
            return None
        visited, full = visited * found[0], full * found[1]
    return BoxVisits(boxes, prod(boxes.counts) ** 2, visited, full)


def _of_axis(
    axis: AxisRanges, i: int, boxes: Boxes, symbols: Mapping[str, Interval], loads: LoadBounds
) -> tuple[int, int] | None:
    """Along one axis: pairs of boxes that are visited, and those of them that are full."""
    side, count, dim = boxes.sides[i], boxes.counts[i], boxes.dims[i]
    first = np.arange(count) * side
    past = first + side
    of_queries = {f"q_first[{i}]": ints(first, first), f"q_last[{i}]": ints(*[np.minimum(past, dim) - 1] * 2)}
    evaluator = Evaluator({**symbols, **of_queries}, loads)
    outer, inner = _ends(axis.outer, evaluator), _ends(axis.inner, evaluator)
    if outer is None or inner is None:
        return None
    seen = np.zeros((count, count), bool)
    for low, high in outer:
        seen |= (low < high)[:, None] & (low[:, None] < past) & (first < high[:, None])
    all_seen = np.zeros_like(seen)
    for low, high in inner:
        all_seen |= (low[:, None] <= first) & (past <= high[:, None])
    all_seen &= seen & (past <= dim)[:, None]
    return int(seen.sum()), int(all_seen.sum())


def _ends(ranges: tuple[Range, ...], evaluator: Evaluator) -> list[tuple[Numbers, Numbers]] | None:
    found = []
    for one in ranges:
        ends = [evaluator.number(end) for end in one]
        if any(not np.all(end.lo == end.hi) for end in ends):
            return None
        shape = np.broadcast_shapes(*(np.shape(s.lo) for s in evaluator.symbols.values()))
        low, high = (np.broadcast_to(np.asarray(end.lo), shape).astype(np.int64) for end in ends)
        found.append((low, high))
    return found


def shapes(dims: tuple[int, ...], volume: int) -> list[tuple[int, ...]]:
    """Shapes of boxes of a volume, a power of two, with sides that are powers of two and not beyond the grid."""
    if len(dims) == 1:
        return [(volume,)]
    found = []
    side = 1
    while side <= volume and side < 2 * dims[0]:
        found += [(side, *rest) for rest in shapes(dims[1:], volume // side)]
        side *= 2
    return found


def best_shape(every: Sequence[tuple[AxisRanges, ...]], dims: tuple[int, ...], volume: int) -> tuple[int, ...]:
    """The shape whose tiles visit fewest pairs for these axes of key sets; near to a cube where that is not known."""
    return _best_shape(tuple(every), dims, volume)


@lru_cache(maxsize=256)
def _best_shape(every: tuple[tuple[AxisRanges, ...], ...], dims: tuple[int, ...], volume: int) -> tuple[int, ...]:
    def cost(sides: tuple[int, ...]) -> tuple[float, ...]:
        boxes = Boxes(dims, sides)
        found = [box_visits(axes, boxes) for axes in every]
        uneven = max(sides) / min(sides)
        padding = boxes.tokens / prod(dims)
        if any(one is None for one in found):
            return padding, uneven, -sides[-1]
        # A tile that is visible in part costs its mask, too.
        pairs = sum(one.pairs * (1 + PARTIAL * (1 - one.full / max(1, one.visited))) for one in found if one)
        return pairs, uneven, -sides[-1]

    return min(shapes(dims, volume), key=cost)


PARTIAL = 0.15
"""What a mask adds to the cost of a tile, about."""
