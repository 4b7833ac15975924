"""Causal masks."""

from __future__ import annotations

from typing import Literal

from attngen.arguments import one_of
from attngen.masks.mask import Mask
from attngen.remember import remembered


@remembered
def causal(align: Literal["top_left", "bottom_right"] = "top_left") -> Mask:
    """No query sees a later key.

    "top_left": kv <= q, so row q sees min(q + 1, n_k) keys (FlexAttention's samples, torch's `is_causal`).
    "bottom_right": kv <= q + n_k - n_q, so the last query sees every key: row q sees q + n_k - n_q + 1 keys, and with
    n_q > n_k the first n_q - n_k rows see none (FlashAttention, decoding with a KV cache). Equal where n_q = n_k.
    """
    one_of("align", align, ("top_left", "bottom_right"))
    if align == "top_left":
        return Mask.of(lambda q, kv: kv <= q, "causal")
    return Mask.of(lambda q, kv, n_q, n_k: kv <= q + (n_k - n_q), "causal_bottom_right")
