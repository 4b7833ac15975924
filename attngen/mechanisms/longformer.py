"""Longformer's attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attngen import masks
from attngen.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


def longformer(
    window: int | Tensor,
    dilation: int | Tensor = 1,
    global_tokens: int | Tensor = 0,
    *,
    score: Any = None,
    normalizer: Any = "softmax",
    scale: Any = None,
) -> Spec:
    """Attention to `window` keys on each side, `dilation` apart, and to and from the first `global_tokens` tokens.

    A row sees at most 2 * window + 1 keys and the global ones, a global row all; see `masks.dilated` and
    `masks.global_tokens`. Longformer's second projections for global tokens are left to the caller. Source: arXiv
    2004.05150.
    """
    mask = masks.dilated(window, dilation)
    mask = mask if isinstance(global_tokens, int) and global_tokens == 0 else mask | masks.global_tokens(global_tokens)
    return Spec(mask, score, normalizer, scale=scale, name="longformer")
