"""The scores over their sum."""

from __future__ import annotations

from attngen.arguments import number
from attngen.normalizers.declare import streaming
from attngen.normalizers.normalizer import Normalizer
from attngen.remember import remembered


@remembered
def linear(eps: float = 0.0) -> Normalizer:
    """s / (sum s + eps), for scores that are never negative: dots of feature maps such as elu + 1, relu, softmax.

    A spec whose scores can be negative is refused, because their sum could be 0. A row whose sum is 0 gives 0.
    `eps` >= 0 is a run-time number. Source: Transformers are RNNs, arXiv 2006.16236.
    """
    eps = float(number("eps", eps, low=0))
    finalize = None if eps == 0 else lambda acc, mass: acc / (mass + eps)
    return streaming("linear", phi=lambda s: s, psi=lambda s: s, finalize=finalize, scores="nonnegative")
