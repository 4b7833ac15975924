"""Softpick: rectified softmax."""

from __future__ import annotations

from attngen.normalizers.declare import streaming
from attngen.normalizers.normalizer import Normalizer
from attngen.remember import remembered


@remembered
def softpick() -> Normalizer:
    """relu(exp(s) - 1) / sum |exp(s) - 1|: keys with a score <= 0 get weight 0, and a row may sum to less than 1.

    The anchor is the maximum of max(s, 0), not of s: the 1 becomes exp(-m), which would overflow for m far below 0. A
    row whose scores are all 0 gives 0, as does an empty row. There is no log-sum-exp. Source: arXiv 2504.20966.
    """
    import torch

    return streaming(
        "softpick",
        phi=lambda s, m: torch.relu(torch.exp(s - m) - torch.exp(-m)),
        psi=lambda s, m: torch.abs(torch.exp(s - m) - torch.exp(-m)),
        anchor=lambda s: torch.relu(s),
    )
