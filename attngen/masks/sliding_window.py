"""The causal sliding window."""

# mypy: allow-untyped-defs
from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.arguments import each, per_head
from attngen.masks.mask import Mask
from attngen.remember import remembered

if TYPE_CHECKING:
    from torch import Tensor


@remembered
def sliding_window(window: int | Tensor) -> Mask:
    """The last `window` keys up to and including the query's own position.

    With i = q + n_k - n_q (bottom-right aligned): i - window < kv <= i, so row q sees min(i + 1, window) keys, none
    where i < 0. FlashAttention's window_size=(window - 1, 0). `window` >= 1, or an integer tensor (H,), one per query
    head. Source: Mistral 7B, arXiv 2310.06825; the count includes self, as in Hugging Face transformers.
    """
    window = per_head("window", window, low=1)

    def mask(h, q, kv, n_q, n_k):
        at = q + (n_k - n_q)
        return (kv <= at) & (kv > at - each(window, h))

    return Mask.of(mask, "sliding_window")
