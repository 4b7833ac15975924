"""Entmax and sparsemax: softmaxes with exact zeros."""

from __future__ import annotations

from attngen.arguments import number
from attngen.ir import normalizer as ir
from attngen.normalizers.normalizer import Normalizer
from attngen.remember import remembered

ALPHAS = (
    "a number > 1 (1 itself is softmax): only then does the sum of the weights fall as tau rises, so that it is 1 once"
)


@remembered
def entmax(alpha: float = 1.5) -> Normalizer:
    """relu((alpha - 1) s - tau) ** (1 / (alpha - 1)), with tau such that a row sums to 1.

    `alpha` > 1 is a constant of the kernel: 2 is sparsemax, towards 1 it becomes softmax. An empty row gives 0; there
    is no log-sum-exp. Source: arXiv 1905.05702.
    """
    number("alpha", alpha, above=1.0, allowed=ALPHAS)
    return Normalizer(ir.Threshold("entmax", float(alpha)))


def sparsemax() -> Normalizer:
    """relu(s - tau), with tau such that a row sums to 1: the projection on the simplex. Source: arXiv 1602.02068."""
    return Normalizer(ir.Threshold("sparsemax", 2.0))
