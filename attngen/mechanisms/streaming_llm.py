"""Sinks and a window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attngen import masks
from attngen.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


def streaming_llm(
    sinks: int | Tensor = 4,
    window: int | Tensor = 1024,
    *,
    score: Any = None,
    normalizer: Any = "softmax",
    scale: Any = None,
) -> Spec:
    """Causal attention to the first `sinks` keys and the last `window` keys, self included.

    Bottom-right aligned: with i = q + n_k - n_q, row q sees min(i + 1, window) keys of the window and those sinks that
    lie before it. Source: StreamingLLM, arXiv 2309.17453.
    """
    mask = masks.sink(sinks) & masks.causal("bottom_right") | masks.sliding_window(window)
    return Spec(mask, score, normalizer, scale=scale, name="streaming_llm")
