"""Attention in windows of a sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attngen import masks
from attngen.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


def sliding_window(window: int | Tensor, *, score: Any = None, normalizer: Any = "softmax", scale: Any = None) -> Spec:
    """Causal attention to the last `window` keys, self included; see `masks.sliding_window`."""
    mask = masks.sliding_window(window)
    return Spec(mask=mask, score=score, normalizer=normalizer, scale=scale, name="sliding_window")


def window(
    left: int | Tensor, right: int | Tensor, *, score: Any = None, normalizer: Any = "softmax", scale: Any = None
) -> Spec:
    """Attention to `left` keys before and `right` keys after the query, -1 for no bound; see `masks.window`."""
    return Spec(masks.window(left, right), score, normalizer, scale=scale, name="window")
