"""MaxViT's grid attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attngen import masks
from attngen.space import Grid
from attngen.spec import Spec


def maxvit_grid(
    dims: int | Sequence[int],
    size: int | Sequence[int],
    *,
    score: Any = None,
    normalizer: Any = "softmax",
    scale: Any = None,
) -> Spec:
    """Attention to `size` keys per dimension, spread over the whole grid; see `masks.maxvit_grid`.

    MaxViT's block attention before it is `blocked(dims, size)`. q, k, v as in `neighborhood`.
    """
    return Spec(masks.maxvit_grid(dims, size), score, normalizer, Grid(dims), scale, name="maxvit_grid")
