"""Tile classes: on a tile of queries and keys, is the mask never, sometimes or always true?"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attngen.codegen.analysis.evaluate import Evaluator
from attngen.codegen.analysis.interval import Array, Interval, Truth, ints
from attngen.codegen.analysis.loads import LoadBounds, unknown
from attngen.codegen.analysis.ranges import whole_mask
from attngen.ir.expr import Expr
from attngen.ir.nodes import Grid, Space


class TileClass(IntEnum):
    """What is proven about the mask on a tile. `SOMETIMES` also stands for what could not be decided."""

    NEVER = 0
    SOMETIMES = 1
    ALWAYS = 2


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a call: queries, keys, batches, query heads."""

    n_q: int
    n_k: int
    n_b: int = 1
    n_h: int = 1


Ends = tuple[Any, Any]
"""First and last position, both inclusive: ints or int64 arrays that broadcast."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """Tiles of queries and keys, all positions inclusive, as arrays that broadcast against each other.

    On a grid, `q_axes` and `k_axes` may give the range of each coordinate (tiles that are boxes); otherwise they follow
    from the flat ranges: exactly for what stays in one row of the grid, soundly for the rest.
    """

    q: Ends
    k: Ends
    q_axes: tuple[Ends, ...] | None = None
    k_axes: tuple[Ends, ...] | None = None


def box(q_axes: tuple[Ends, ...], k_axes: tuple[Ends, ...], space: Grid) -> Tiles:
    """Tiles of a grid that are boxes of coordinates."""
    return Tiles(_flattened(q_axes, space), _flattened(k_axes, space), q_axes, k_axes)


def _flattened(axes: tuple[Ends, ...], space: Grid) -> Ends:
    first, last = np.asarray(0), np.asarray(0)
    for (low, high), extent in zip(axes, space.dims, strict=True):
        first, last = first * extent + np.asarray(low), last * extent + np.asarray(high)
    return first, last


def classify(
    mask: Expr,
    space: Space,
    tiles: Tiles,
    sizes: Sizes,
    loads: LoadBounds = unknown,
    *,
    b: int | None = None,
    h: int | None = None,
) -> NDArray[np.int8]:
    """The `TileClass` of each tile, for batch b and head h, or for all of them where they are not given."""
    truth = evaluator(space, tiles, sizes, loads, b=b, h=h).truth(whole_mask(mask, space))
    return classes(truth)


def all_tiles(
    mask: Expr, space: Space, sizes: Sizes, tile: tuple[int, int], loads: LoadBounds, by_batch: bool, by_head: bool
) -> Truth:
    """The mask on every tile of tile[0] queries and tile[1] keys: arrays that broadcast to (batches, heads, rows of
    tiles, tiles of a row). `by_batch`, `by_head`: whether it depends on them."""
    q, k = np.arange(0, sizes.n_q, tile[0])[:, None], np.arange(0, sizes.n_k, tile[1])
    q_last, k_last = np.minimum(q + tile[0], sizes.n_q) - 1, np.minimum(k + tile[1], sizes.n_k) - 1
    b = np.arange(sizes.n_b)[:, None, None, None] if by_batch else None
    h = np.arange(sizes.n_h)[:, None, None] if by_head else None
    return evaluator(space, Tiles((q, q_last), (k, k_last)), sizes, loads, b=b, h=h).truth(whole_mask(mask, space))


def classes(truth: Truth) -> NDArray[np.int8]:
    """Three-valued truths as tile classes."""
    always = np.where(truth.may_be_false, TileClass.SOMETIMES, TileClass.ALWAYS)
    return np.where(truth.may_be_true, always, TileClass.NEVER).astype(np.int8)


def evaluator(
    space: Space, tiles: Tiles, sizes: Sizes, loads: LoadBounds = unknown, *, b: Any = None, h: Any = None
) -> Evaluator:
    """The evaluator of mask and score expressions on tiles, for a batch and a head, or for arrays of them."""
    symbols = {
        **size_symbols(sizes, b, h),
        "q": ints(*tiles.q),
        "kv": ints(*tiles.k),
    }
    if isinstance(space, Grid):
        for name, ends, axes in (("q", tiles.q, tiles.q_axes), ("kv", tiles.k, tiles.k_axes)):
            found = coordinate_ranges(ends, space) if axes is None else tuple(ints(*a) for a in axes)
            symbols |= {f"{name}[{i}]": a for i, a in enumerate(found)}
    return Evaluator(symbols, loads)


def size_symbols(sizes: Sizes, b: Any = None, h: Any = None) -> dict[str, Interval]:
    """The ranges of the symbols that are the same for all tiles."""
    return {
        "n_q": ints(sizes.n_q, sizes.n_q),
        "n_k": ints(sizes.n_k, sizes.n_k),
        "n_b": ints(sizes.n_b, sizes.n_b),
        "n_h": ints(sizes.n_h, sizes.n_h),
        "n_visible": ints(0, sizes.n_k),
        "b": ints(0, max(sizes.n_b - 1, 0)) if b is None else ints(b, b),
        "h": ints(0, max(sizes.n_h - 1, 0)) if h is None else ints(h, h),
    }


def coordinate_ranges(ends: Ends, space: Grid) -> tuple[Interval, ...]:
    """The range of each coordinate over flat positions first .. last."""
    first, last = (np.asarray(end, np.int64) for end in ends)
    result: list[Interval] = []
    stride = int(np.prod(space.dims, dtype=np.int64))
    for extent in space.dims:
        outside: Array = first // stride == last // stride
        stride //= extent
        low, high = first // stride % extent, last // stride % extent
        result.append(ints(np.where(outside, low, 0), np.where(outside, high, extent - 1)))
    return tuple(result)
