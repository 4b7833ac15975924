"""Scores: what happens to the scaled dot product. `a >> b` applies a, then b."""

from __future__ import annotations

from attngen.scores.alibi import alibi
from attngen.scores.bias import bias
from attngen.scores.relative_bias import relative_bias
from attngen.scores.score import Score
from attngen.scores.soft_cap import soft_cap
from attngen.suggest import missing

__all__ = ["Score", "alibi", "bias", "relative_bias", "soft_cap"]

__getattr__ = missing(__name__, __all__)
