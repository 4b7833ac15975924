"""What a mask looks like from afar: a raster of cells, each with its class and bounds of its visible share.

A cell that is sometimes visible is split until its parts are decided, are single tiles, or the budget is spent; parts
that are never or always visible are done at once. So the work follows the boundary of the mask, never N x N.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attngen.codegen.analysis import LoadBounds, Sizes, TileClass, Tiles, classify
from attngen.codegen.analysis.loads import unknown
from attngen.ir.expr import Expr
from attngen.ir.nodes import Space

MOST_PARTS = 1 << 18
"""Parts that are classified at most, whatever the size."""

CHUNK = 1 << 16
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """A raster of cells, each `height` queries by `width` keys, those at the edge less.

    `least` and `most` bound the number of visible pairs in each cell; they are equal where everything was decided.
    """

    sizes: Sizes
    height: int
    width: int
    least: Floats
    most: Floats
    areas: Floats

    @property
    def classes(self) -> NDArray[np.int8]:
        """The `TileClass` of each cell."""
        full = np.where(self.least == self.areas, TileClass.ALWAYS, TileClass.SOMETIMES)
        return np.where(self.most == 0, TileClass.NEVER, full).astype(np.int8)

    @property
    def shares(self) -> Floats:
        """The visible share of each cell, in the middle of its bounds."""
        return np.asarray((self.least + self.most) / (2 * np.maximum(self.areas, 1)))

    def visible(self) -> tuple[int, int]:
        """Bounds of the number of visible pairs."""
        return int(self.least.sum()), int(self.most.sum())

    def same(self, other: Cells) -> bool:
        """Whether two rasters look the same."""
        return np.array_equal(self.least, other.least) and np.array_equal(self.most, other.most)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Rectangles q0 <= q < q1, k0 <= kv < k1 of a cell."""

    cell: Any
    q0: Any
    q1: Any
    k0: Any
    k1: Any

    def __len__(self) -> int:
        return len(self.cell)

    def take(self, index: Any) -> _Parts:
        return _Parts(self.cell[index], self.q0[index], self.q1[index], self.k0[index], self.k1[index])

    @property
    def areas(self) -> Floats:
        return np.asarray((self.q1 - self.q0) * (self.k1 - self.k0), np.float64)


def cells(
    mask: Expr,
    space: Space,
    sizes: Sizes,
    cell: tuple[int, int],
    *,
    tile: int = 1,
    loads: LoadBounds = unknown,
    b: int = 0,
    h: int = 0,
    most_parts: int = MOST_PARTS,
) -> Cells:
    """The raster of a mask for one batch and head; `cell` is (queries, keys), multiples of `tile`."""
    height, width = cell
    rows, columns = -(-sizes.n_q // height), -(-sizes.n_k // width)
    row, column = (index.reshape(-1) for index in np.mgrid[:rows, :columns])
    parts = _Parts(
        row * columns + column,
        row * height,
        np.minimum((row + 1) * height, sizes.n_q),
        column * width,
        np.minimum((column + 1) * width, sizes.n_k),
    )
    areas = parts.areas
    least, most = np.zeros_like(areas), areas.copy()
    spent = 0
    while len(parts) and (not spent or spent + len(parts) <= most_parts):
        spent += len(parts)
        kind = _classified(mask, space, sizes, loads, b, h, parts)
        for counts, which, sign in ((least, TileClass.ALWAYS, 1), (most, TileClass.NEVER, -1)):
            found = parts.take(kind == which)
            counts += sign * np.bincount(found.cell, found.areas, len(counts))
        parts = _split(parts.take(kind == TileClass.SOMETIMES), tile)
    shape = (rows, columns)
    return Cells(sizes, height, width, least.reshape(shape), most.reshape(shape), areas.reshape(shape))


def _classified(
    mask: Expr, space: Space, sizes: Sizes, loads: LoadBounds, b: int, h: int, parts: _Parts
) -> NDArray[np.int8]:
    found = []
    for start in range(0, len(parts), CHUNK):
        part = parts.take(slice(start, start + CHUNK))
        tiles = Tiles((part.q0, part.q1 - 1), (part.k0, part.k1 - 1))
        kind = classify(mask, space, tiles, sizes, loads, b=b, h=h)
        found.append(np.broadcast_to(kind, part.cell.shape))
    return np.concatenate(found)


def _split(parts: _Parts, tile: int) -> _Parts:
    """Each part in up to four, cut at multiples of the tile; parts of one tile are not split, they stay undecided."""
    high, wide = parts.q1 - parts.q0 > tile, parts.k1 - parts.k0 > tile
    parts, high, wide = parts.take(high | wide), high[high | wide], wide[high | wide]
    q = np.where(high, _middle(parts.q0, parts.q1, tile), parts.q1)
    k = np.where(wide, _middle(parts.k0, parts.k1, tile), parts.k1)
    quarters = [
        _Parts(parts.cell, q0, q1, k0, k1)
        for q0, q1 in ((parts.q0, q), (q, parts.q1))
        for k0, k1 in ((parts.k0, k), (k, parts.k1))
    ]
    joined = _Parts(*(np.concatenate([getattr(p, f) for p in quarters]) for f in ("cell", "q0", "q1", "k0", "k1")))
    return joined.take((joined.q0 < joined.q1) & (joined.k0 < joined.k1))


def _middle(first: Any, end: Any, tile: int) -> Any:
    return first + -(-(end - first) // (2 * tile)) * tile
