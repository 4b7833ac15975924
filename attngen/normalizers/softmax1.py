"""Softmax that can attend to nothing."""

from __future__ import annotations

from attngen.normalizers.declare import streaming
from attngen.normalizers.normalizer import Normalizer
from attngen.remember import remembered


@remembered
def softmax1() -> Normalizer:
    """exp(s) / (1 + sum exp(s)): softmax with a sink of score 0. A row's weights sum to less than 1.

    The log-sum-exp is log(1 + sum exp(s)). Source: E. Miller, "Attention Is Off By One" (2023).
    """
    import torch

    return streaming(
        "softmax1",
        phi=lambda s, m: torch.exp(s - m),
        psi=lambda s, m: torch.exp(s - m),
        anchor=lambda s: s,
        sink=lambda: 0.0,
        lse=lambda m, mass: m + torch.log(mass),
    )
