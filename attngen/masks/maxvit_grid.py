"""MaxViT's grid attention: few keys, spread over the whole grid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_

from attngen.arguments import divisor
from attngen.frontend import static
from attngen.masks.mask import Mask
from attngen.remember import remembered
from attngen.space import grid_dims, per_dimension


@remembered
def maxvit_grid(dims: int | Sequence[int], size: int | Sequence[int]) -> Mask:
    """Every (length / size)-th key in every dimension of the grid `dims`: a row sees exactly prod(size) keys.

    q[i] % step == kv[i] % step with step = dims[i] / size[i]. MaxViT alternates it with `blocked(dims, size)`. It is a
    `neighborhood` with kernel_size = size and dilation = step. `size` is one value or one per dimension, divides the
    length, and is a constant of the kernel. Source: MaxViT, arXiv 2204.01697.
    """
    lengths = grid_dims("dims", dims)
    sizes = per_dimension("size", size, len(lengths))
    for i, length in enumerate(lengths):
        divisor(f"size[{i}]", sizes[i], length, f"the length of dimension {i}")
    steps = (length // n for length, n in zip(lengths, sizes, strict=True))
    return reduce(and_, (_along(lengths, i, step) for i, step in enumerate(steps))).called("maxvit_grid")


def _along(dims: tuple[int, ...], axis: int, step: int) -> Mask:
    axis, step = static(axis), static(step)
    return Mask.of(lambda q, kv: q[axis] % step == kv[axis] % step, "maxvit_grid", grid=dims)
