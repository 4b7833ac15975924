"""Causal and full attention."""

from __future__ import annotations

from typing import Any, Literal

from attngen import masks
from attngen.spec import Spec


def causal(
    align: Literal["top_left", "bottom_right"] = "top_left",
    *,
    score: Any = None,
    normalizer: Any = "softmax",
    scale: Any = None,
) -> Spec:
    """Attention to earlier keys and self; see `masks.causal` for the alignment where n_q != n_k."""
    return Spec(masks.causal(align), score, normalizer, scale=scale, name="causal")


def full(*, score: Any = None, normalizer: Any = "softmax", scale: Any = None) -> Spec:
    """Attention to every key."""
    return Spec(None, score, normalizer, scale=scale, name="full")
