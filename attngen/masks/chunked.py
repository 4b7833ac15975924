"""Chunked attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.arguments import each, per_head
from attngen.masks.mask import Mask
from attngen.remember import remembered

if TYPE_CHECKING:
    from torch import Tensor


@remembered
def chunked(size: int | Tensor) -> Mask:
    """Keys of the query's own chunk of `size` positions.

    With i = q + n_k - n_q (bottom-right aligned): kv // size == i // size, so a row sees `size` keys, the last chunk
    what is left of it, none where i < 0. No causality is implied; Llama 4 is
    `causal(align="bottom_right") & chunked(8192)`, FlashAttention's `attention_chunk`. `size` >= 1, or an integer
    tensor (H,), one per query head.
    """
    size = per_head("size", size, low=1)
    return Mask.of(lambda h, q, kv, n_q, n_k: kv // each(size, h) == (q + (n_k - n_q)) // each(size, h), "chunked")
