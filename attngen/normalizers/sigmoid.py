"""Sigmoid attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.arguments import each, head_numbers
from attngen.normalizers.declare import streaming
from attngen.normalizers.normalizer import Normalizer
from attngen.remember import remembered

if TYPE_CHECKING:
    from torch import Tensor


@remembered
def sigmoid(bias: float | Tensor = 0) -> Normalizer:
    """sigmoid(s + bias), each key by itself: no sum over the row, no log-sum-exp. An empty row gives 0.

    `bias` is a number or a float tensor, () or (H,) with one per query head; the paper uses -log(n_k). Source: Theory,
    Analysis, and Best Practices for Sigmoid Self-Attention, arXiv 2409.04431; apple/ml-sigmoid-attention.
    """
    import torch

    bias = head_numbers("bias", bias)
    return streaming("sigmoid", phi=lambda s, h: torch.sigmoid(s + each(bias, h)))
