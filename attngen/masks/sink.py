"""Attention sinks: the first keys, visible to all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.arguments import each, per_head
from attngen.masks.mask import Mask
from attngen.remember import remembered

if TYPE_CHECKING:
    from torch import Tensor


@remembered
def sink(n: int | Tensor) -> Mask:
    """Keys kv < n: every row sees min(n, n_k) keys. No causality is implied.

    `n` >= 0, or an integer tensor (H,), one per query head.
    Combine as `sink(4) & causal() | sliding_window(1024)`. The sinks are ordinary keys here; a learned sink logit is
    `normalizers.softmax(sink=...)`. Source: StreamingLLM, arXiv 2309.17453.
    """
    n = per_head("n", n, low=0)
    return Mask.of(lambda h, kv: kv < each(n, h), "sink")
