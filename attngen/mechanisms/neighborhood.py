"""Neighborhood attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attngen import masks
from attngen.space import Grid
from attngen.spec import Spec


def neighborhood(
    dims: int | Sequence[int],
    kernel_size: Any,
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    is_causal: bool | Sequence[bool] = False,
    *,
    extra_keys: bool = False,
    score: Any = None,
    normalizer: Any = "softmax",
    scale: Any = None,
) -> Spec:
    """Attention of every point of the grid `dims` to its nearest `kernel_size` keys; see `masks.neighborhood`.

    q, k and v are flattened row by row, (B, H, prod(dims), D), or lie on the grid, (B, H, *dims, D); in the layout
    "bnhd" (B, prod(dims), H, D) or (B, *dims, H, D). `extra_keys`: each call gives further keys that every query sees,
    `kernel(q, k, v, extra_k=..., extra_v=...)`; see `Spec.with_extra_keys`.
    """
    mask = masks.neighborhood(dims, kernel_size, stride, dilation, is_causal)
    spec = Spec(mask, score, normalizer, Grid(dims), scale, name="neighborhood")
    return spec.with_extra_keys() if extra_keys else spec
