"""Window attention, and the shifted windows of Swin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attngen import masks
from attngen.space import Grid, grid_dims, per_dimension
from attngen.spec import Spec


def blocked(
    dims: int | Sequence[int],
    window: int | Sequence[int],
    shift: int | Sequence[int] = 0,
    *,
    score: Any = None,
    normalizer: Any = "softmax",
    scale: Any = None,
) -> Spec:
    """Attention within windows that tile the grid `dims`; see `masks.blocked`. q, k, v as in `neighborhood`."""
    mask = masks.blocked(dims, window, shift)
    return Spec(mask, score, normalizer, Grid(dims), scale, name="blocked")


def shifted_windows(
    dims: int | Sequence[int],
    window: int | Sequence[int],
    *,
    score: Any = None,
    normalizer: Any = "softmax",
    scale: Any = None,
) -> Spec:
    """The other layers of Swin: windows shifted by half of one, except along an axis that a single window covers.

    Swin's learned bias is a score: `lambda score, h, q, kv: score + table[h, q[0] - kv[0] + w, q[1] - kv[1] + w]`.
    """
    lengths = grid_dims("dims", dims)
    windows = per_dimension("window", window, len(lengths))
    shift = [w // 2 if isinstance(w, int) and w < n else 0 for w, n in zip(windows, lengths, strict=True)]
    spec = blocked(dims, window, shift, score=score, normalizer=normalizer, scale=scale)
    return spec.named("shifted_windows")
