"""Softplus over its sum."""

from __future__ import annotations

from attngen.normalizers.declare import streaming
from attngen.normalizers.normalizer import Normalizer
from attngen.remember import remembered


@remembered
def softplus_l1() -> Normalizer:
    """softplus(s) / sum softplus(s). No anchor: softplus(s) grows like s, so no score overflows it.

    The length scale of LSSA belongs in the score: `Spec(scale=lambda q: ...)`. An empty row gives 0; there is no
    log-sum-exp. Source: LSSA, arXiv 2501.13428.
    """
    from torch.nn.functional import softplus

    return streaming("softplus_l1", phi=lambda s: softplus(s), psi=lambda s: softplus(s))
