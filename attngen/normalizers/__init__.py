"""Normalizers: how the scores of a row become weights. `streaming` declares your own in ten lines."""

from __future__ import annotations

from attngen.normalizers.affine import affine
from attngen.normalizers.cog import cog
from attngen.normalizers.declare import chained, ordered, streaming
from attngen.normalizers.entmax import entmax, sparsemax
from attngen.normalizers.laplace import laplace
from attngen.normalizers.linear import linear
from attngen.normalizers.lssar import lssar
from attngen.normalizers.none import none
from attngen.normalizers.normalizer import Normalizer
from attngen.normalizers.registry import ALL, named, register
from attngen.normalizers.relu import relu
from attngen.normalizers.sigmoid import sigmoid
from attngen.normalizers.softmax import softmax
from attngen.normalizers.softmax1 import softmax1
from attngen.normalizers.softpick import softpick
from attngen.normalizers.softplus_l1 import softplus_l1
from attngen.normalizers.stick_breaking import stick_breaking
from attngen.suggest import missing

__all__ = [
    "ALL",
    "Normalizer",
    "affine",
    "chained",
    "cog",
    "entmax",
    "laplace",
    "linear",
    "lssar",
    "named",
    "none",
    "ordered",
    "relu",
    "sigmoid",
    "softmax",
    "softmax1",
    "softpick",
    "softplus_l1",
    "sparsemax",
    "stick_breaking",
    "streaming",
]

register(globals())
__getattr__ = missing(__name__, __all__)
