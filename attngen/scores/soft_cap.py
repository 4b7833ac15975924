"""Soft-capped scores."""

from __future__ import annotations

from attngen.arguments import number
from attngen.remember import remembered
from attngen.scores.score import Score


@remembered
def soft_cap(cap: float) -> Score:
    """cap * tanh(score / cap): scores stay within (-cap, cap). `cap` > 0 is a run-time number.

    Comes before additive biases: `soft_cap(50) >> alibi(slopes)`. Source: Gemma 2, arXiv 2408.00118.
    """
    import torch

    cap = float(number("cap", cap, above=0))
    return Score.of(lambda score: cap * torch.tanh(score / cap), "soft_cap")
