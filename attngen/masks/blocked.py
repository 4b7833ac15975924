"""Windows that tile a grid: window attention, and Swin's shifted windows."""

# mypy: allow-untyped-defs
from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_

from attngen.arguments import integer
from attngen.frontend import static
from attngen.masks.mask import Mask
from attngen.remember import remembered
from attngen.space import grid_dims, per_dimension


@remembered
def blocked(dims: int | Sequence[int], window: int | Sequence[int], shift: int | Sequence[int] = 0) -> Mask:
    """Keys of the query's own window, where windows of `window` positions tile the grid `dims`.

    In every dimension windows begin at `shift`, shift + window, ...: a row sees prod(window) keys. A window at a border
    holds what is left there, and is not moved inwards as in `neighborhood` with stride = kernel_size. A shift > 0 gives
    Swin's shifted windows with their mask: Swin rolls the grid by `shift`, and masks a window that wraps around the
    border so that the parts from either side do not see each other; those parts are the windows at the borders here.
    (Where windows do not divide a length, Swin pads; padding is absent here.)

    Each argument is one value or one per dimension, and a constant of the kernel: 1 <= window <= length and
    0 <= shift < window. Source: Swin Transformer, arXiv 2103.14030.
    """
    lengths = grid_dims("dims", dims)
    windows = per_dimension("window", window, len(lengths))
    shifts = per_dimension("shift", shift, len(lengths))
    for i, length in enumerate(lengths):
        where = f"in dimension {i} of length {length}"
        integer(f"window[{i}]", windows[i], 1, length, allowed=f"1 .. {length} {where}")
        integer(f"shift[{i}]", shifts[i], 0, windows[i] - 1, allowed=f"0 .. {windows[i] - 1} (less than its window)")
    parts = (_along(lengths, *row) for row in zip(range(len(lengths)), windows, shifts, strict=True))
    return reduce(and_, parts).called("blocked")


def _along(dims: tuple[int, ...], axis: int, window: int, shift: int) -> Mask:
    # One window more or less changes nothing, and keeps what is divided from being negative.
    before = static((window - shift) % window)
    axis, window = static(axis), static(window)
    return Mask.of(lambda q, kv: (q[axis] + before) // window == (kv[axis] + before) // window, "blocked", grid=dims)
