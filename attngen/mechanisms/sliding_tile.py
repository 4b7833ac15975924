"""Sliding tile attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attngen import masks
from attngen.space import Grid
from attngen.spec import Spec


def sliding_tile(
    dims: int | Sequence[int],
    tile: int | Sequence[int],
    window: Any,
    *,
    extra_keys: bool = False,
    score: Any = None,
    normalizer: Any = "softmax",
    scale: Any = None,
) -> Spec:
    """Attention to the `window` tiles around a query's own; see `masks.sliding_tile`. q, k, v as in `neighborhood`.

    `extra_keys`: each call gives the text keys that every query of the image or clip sees, `extra_k` and `extra_v`; see
    `Spec.with_extra_keys`, which also takes a mask for padded ones. Text queries see everything: `full()`.
    """
    spec = Spec(masks.sliding_tile(dims, tile, window), score, normalizer, Grid(dims), scale, name="sliding_tile")
    return spec.with_extra_keys() if extra_keys else spec
