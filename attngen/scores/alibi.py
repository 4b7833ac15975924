"""Attention with linear biases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.arguments import tensor
from attngen.remember import remembered
from attngen.scores.score import Score

if TYPE_CHECKING:
    from torch import Tensor


@remembered
def alibi(slopes: Tensor) -> Score:
    """score - slopes[h] * |q + n_k - n_q - kv|, with `slopes` a float tensor (H,), one per query head.

    Symmetric, and bottom-right aligned where n_q != n_k, as FlashAttention's `alibi_slopes`; under a causal mask it is
    the paper's bias, row by row up to a constant that softmax does not see. Gradients flow to `slopes`. Source: arXiv
    2108.12409.
    """
    slopes = tensor("slopes", slopes, (1,), "(H,)", integral=False)
    return Score.of(lambda score, h, q, kv, n_q, n_k: score - slopes[h] * abs(q + (n_k - n_q) - kv), "alibi")
