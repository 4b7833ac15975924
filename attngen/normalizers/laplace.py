"""Mega's Laplace attention."""

from __future__ import annotations

from attngen.frontend import static
from attngen.normalizers.declare import streaming
from attngen.normalizers.normalizer import Normalizer
from attngen.remember import remembered


@remembered
def laplace() -> Normalizer:
    """(1 + erf((s - mu) / (sigma sqrt(2)))) / 2 with mu = 0.707107, sigma = 0.282095, each key by itself.

    An approximation of squared ReLU with bounded slope. An empty row gives 0; there is no log-sum-exp. Source: Mega,
    arXiv 2209.10655.
    """
    import torch

    steepness = static(1 / (0.282095 * 2**0.5))  # a factor: kernels multiply faster than they divide
    return streaming("laplace", phi=lambda s: 0.5 * (1.0 + torch.erf((s - 0.707107) * steepness)))
