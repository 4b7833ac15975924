"""Cog attention: softmax with signs."""

from __future__ import annotations

from attngen.normalizers.declare import streaming
from attngen.normalizers.normalizer import Normalizer
from attngen.remember import remembered


@remembered
def cog() -> Normalizer:
    """sign(s) exp(|s|) / sum exp(|s|): weights may be negative, their magnitudes sum to 1 (less what has s = 0).

    A score of exactly 0 has weight 0 but counts in the sum. The running maximum is that of |s|, so large negative
    scores do not overflow; the log-sum-exp is that of |s|. An empty row gives 0. The weight changes its sign at
    s = 0 by a jump, which the derivative, that of the two sides, does not see. Source: arXiv 2411.07176.
    """
    import torch

    return streaming(
        "cog",
        phi=lambda s, m: torch.sign(s) * torch.exp(torch.abs(s) - m),
        psi=lambda s, m: torch.exp(torch.abs(s) - m),
        anchor=lambda s: torch.abs(s),
        lse=lambda m, mass: m + torch.log(mass),
        jumps_ignored=(0.0,),
    )
