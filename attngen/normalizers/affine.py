"""Affine-scaled softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attngen.arguments import each_row, row_numbers
from attngen.normalizers.declare import streaming
from attngen.normalizers.normalizer import Normalizer
from attngen.remember import remembered

if TYPE_CHECKING:
    from torch import Tensor


@remembered
def affine(alpha: float | Tensor, beta: float | Tensor) -> Normalizer:
    """alpha * softmax + beta: the weight of every visible key is scaled and shifted, row by row.

    O = alpha * acc / mass + beta * (sum of V over the visible keys). `alpha` and `beta` are run-time numbers or float
    tensors (H,) or (B, H, Nq); gradients flow to tensors. An empty row gives 0. The log-sum-exp is softmax's. Source:
    arXiv 2602.23057.
    """
    import torch

    alpha, beta = row_numbers("alpha", alpha), row_numbers("beta", beta)

    def finalize(acc: Any, mass: Any, vsum: Any, b: Any, h: Any, q: Any) -> Any:
        mean = acc / torch.where(mass > 0, mass, 1.0)  # an empty row: 0 / 1
        return each_row(alpha, b, h, q) * mean + each_row(beta, b, h, q) * vsum

    return streaming(
        "affine",
        phi=lambda s, m: torch.exp(s - m),
        psi=lambda s, m: torch.exp(s - m),
        anchor=lambda s: s,
        finalize=finalize,
        lse=lambda m, mass: m + torch.log(mass),
    )
