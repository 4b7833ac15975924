"""Sliding tile attention: windows that move by whole tiles."""

# mypy: allow-untyped-defs
from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

from attngen.arguments import divisor, each, head_integers, is_tensor
from attngen.frontend import static
from attngen.masks.mask import Mask
from attngen.remember import remembered
from attngen.space import grid_dims, per_dimension

if TYPE_CHECKING:
    from torch import Tensor


@remembered
def sliding_tile(dims: int | Sequence[int], tile: int | Sequence[int], window: int | Sequence[int | Tensor]) -> Mask:
    """Keys in the `window` tiles around the query's own tile, in every dimension of the grid `dims` cut into `tile`s.

    All queries of a tile see the same tiles. At the borders the window is moved inwards, so with an odd window every
    row sees prod(window * tile) keys. An even window reaches as far to both sides as the next odd one and so covers
    window + 1 tiles, or all where there are only `window` (as in the released code).

    Each argument is one value or one per dimension. Legal: tile divides the length, 1 <= window <= length / tile. Tiles
    are constants of the kernel; so are windows, except that one may be an integer tensor (H,), one per query head: read
    anew at every call, and later values are the caller's to keep legal. Source: arXiv 2502.04507; hao-ai-lab/FastVideo.
    """
    lengths = grid_dims("dims", dims)
    tiles = per_dimension("tile", tile, len(lengths))
    windows = per_dimension("window", window, len(lengths))
    for i, length in enumerate(lengths):
        count = length // divisor(f"tile[{i}]", tiles[i], length, f"the length of dimension {i}")
        head_integers(f"window[{i}]", windows[i], 1, count, f"1 .. {count}, the tiles of dimension {i}")
    rows = zip(tiles, windows, strict=True)
    return reduce(and_, (_along(lengths, i, *row) for i, row in enumerate(rows))).called("sliding_tile")


def _along(dims: tuple[int, ...], axis: int, tile: int, window: int | Tensor) -> Mask:
    import torch

    extent: Any = window if is_tensor(window) else static(window)
    last = static(dims[axis] // tile - 1)
    axis, tile = static(axis), static(tile)

    def near(h, q, kv):
        reach = each(extent, h) // 2
        # Where the window is even and covers the axis, the lower end gives way.
        centre = torch.minimum(torch.clamp(q[axis] // tile, min=reach), last - reach)
        return abs(centre - kv[axis] // tile) <= reach

    return Mask.of(near, "sliding_tile", grid=dims)
