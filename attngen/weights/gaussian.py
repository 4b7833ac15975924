"""A soft window."""

# mypy: allow-untyped-defs
from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.arguments import each, head_numbers, is_tensor, number
from attngen.weights.weight import Weight

if TYPE_CHECKING:
    from torch import Tensor


def gaussian(sigma: float | Tensor) -> Weight:
    """exp(-(i - kv)^2 / (2 sigma^2)) with i = q + n_k - n_q: the weights of far keys fade out; rows sum to at most 1.

    `sigma` > 0 is a run-time number, or a float tensor, () or (H,) with one per head, to which gradients flow.
    """
    import torch

    sigma = head_numbers("sigma", sigma) if is_tensor(sigma) else float(number("sigma", sigma, above=0))

    def weight(h, q, kv, n_q, n_k):
        distance = (q + (n_k - n_q) - kv) / each(sigma, h)
        return torch.exp(-0.5 * distance * distance)

    return Weight.of(weight, "gaussian")
