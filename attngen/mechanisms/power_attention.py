"""PowerAttention."""

from __future__ import annotations

from typing import Any

from attngen import masks
from attngen.spec import Spec


def power_attention(
    block: int = 256,
    window: int = 1,
    sinks: int = 1,
    *,
    score: Any = None,
    normalizer: Any = "softmax",
    scale: Any = None,
) -> Spec:
    """Causal attention to blocks at distances that are powers of two; see `masks.power_blocks`."""
    return Spec(masks.power_blocks(block, window, sinks), score, normalizer, scale=scale, name="power_attention")
