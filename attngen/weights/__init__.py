"""Weights: factors on the normalised weights of a row. `a * b` multiplies both."""

from __future__ import annotations

from attngen.suggest import missing
from attngen.weights.dropout import dropout
from attngen.weights.gaussian import gaussian
from attngen.weights.manhattan import manhattan
from attngen.weights.uniform import uniform
from attngen.weights.weight import Weight

__all__ = ["Weight", "dropout", "gaussian", "manhattan", "uniform"]

__getattr__ = missing(__name__, __all__)
