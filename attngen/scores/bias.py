"""An additive bias for every pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.arguments import tensor
from attngen.remember import remembered
from attngen.scores.score import Score

if TYPE_CHECKING:
    from torch import Tensor


@remembered
def bias(bias: Tensor) -> Score:
    """score + bias, with `bias` a float tensor (Nq, Nk), (H, Nq, Nk) or (B, H, Nq, Nk); B and H may be 1.

    Gradients flow to `bias`. It is read pair by pair, so it costs O(Nq Nk) memory; a bias that depends on positions
    alone is better written as a function. An entry of -inf removes the key.
    """
    bias = tensor("bias", bias, (2, 3, 4), "(Nq, Nk), (H, Nq, Nk) or (B, H, Nq, Nk)", integral=False)
    if bias.dim() == 2:
        return Score.of(lambda score, q, kv: score + bias[q, kv], "bias")
    if bias.dim() == 3 and bias.shape[0] == 1:
        return Score.of(lambda score, q, kv: score + bias[0, q, kv], "bias")
    if bias.dim() == 3:
        return Score.of(lambda score, h, q, kv: score + bias[h, q, kv], "bias")
    if bias.shape[:2] == (1, 1):
        return Score.of(lambda score, q, kv: score + bias[0, 0, q, kv], "bias")
    if bias.shape[0] == 1:
        return Score.of(lambda score, h, q, kv: score + bias[0, h, q, kv], "bias")
    if bias.shape[1] == 1:
        return Score.of(lambda score, b, q, kv: score + bias[b, 0, q, kv], "bias")
    return Score.of(lambda score, b, h, q, kv: score + bias[b, h, q, kv], "bias")
