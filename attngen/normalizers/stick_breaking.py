"""Stick-breaking attention."""

from __future__ import annotations

from attngen.normalizers.declare import ordered
from attngen.normalizers.normalizer import Normalizer
from attngen.remember import remembered


@remembered
def stick_breaking() -> Normalizer:
    """Each key takes the share sigmoid(s) of what the keys nearer to the query left, from the last visible key back.

    weight = sigmoid(s_j) * product over visible keys k > j of (1 - sigmoid(s_k)). A row sums to less than 1. The paper
    excludes the query's own position: mask with `lambda q, kv: kv < q`. An empty row gives 0; there is no log-sum-exp.
    Source: arXiv 2410.17980; the remainder of a row goes nowhere.
    """
    import torch
    from torch.nn.functional import softplus

    return ordered(
        "stick_breaking",
        direction="backward",
        weight=lambda s: torch.sigmoid(s),
        log_keep=lambda s: -softplus(s),  # log(1 - sigmoid(s)), which does not overflow
    )
