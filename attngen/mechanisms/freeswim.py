"""FreeSwim's window attention for clips larger than those trained on."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, sqrt
from typing import Any

from attngen import masks
from attngen.arguments import integer
from attngen.errors import SpecError
from attngen.space import Grid, grid_dims, per_dimension
from attngen.spec import Spec


def freeswim(
    dims: Sequence[int],
    radius: int | Sequence[int],
    tokens: int = 3120,
    trained_tokens: int = 1560,
    *,
    score: Any = None,
    normalizer: Any = "softmax",
) -> Spec:
    """Attention to all frames and, in each, to the (2 r + 1) x (2 r + 1) positions around the query.

    `dims` are (frames, height, width), `radius` is r or one for height and one for width. At the borders the window is
    moved inwards, so every row sees the same number of keys: the receptive field of training. The scale is
    sqrt(log(tokens) / log(trained_tokens) / D); the released code has 2 * 1560 and 1560 tokens. Its second branch, full
    attention for half of the batch, is `full()`. q, k, v as in `neighborhood`. Source: FreeSwim; WillWu111/FreeSwim.
    """
    lengths = grid_dims("dims", dims)
    if len(lengths) != 3:
        raise SpecError(f"dims: got {dims}; allowed: 3 integers, (frames, height, width)")
    reach = per_dimension("radius", radius, 2)
    for i, (r, length) in enumerate(zip(reach, lengths[1:], strict=True)):
        most = (length - 1) // 2
        integer(f"radius[{i}]", r, 1, most, allowed=f"1 .. {most} in dimension {i + 1} of length {length}")
    ratio = log(integer("tokens", tokens, 2)) / log(integer("trained_tokens", trained_tokens, 2))
    mask = masks.neighborhood(lengths, (lengths[0], *(2 * r + 1 for r in reach)))
    scale = f"{sqrt(ratio)!r} * rsqrt(to_float(d))"
    return Spec(mask, score, normalizer, Grid(lengths), scale, name="freeswim")
