"""BigBird's attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attngen import masks
from attngen.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


def bigbird(
    block: int = 64,
    random_blocks: Tensor | None = None,
    *,
    score: Any = None,
    normalizer: Any = "softmax",
    scale: Any = None,
) -> Spec:
    """Attention to three blocks around the query, the first, the last and random ones; see `masks.bigbird`."""
    return Spec(masks.bigbird(block, random_blocks), score, normalizer, scale=scale, name="bigbird")
