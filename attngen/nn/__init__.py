"""Mechanisms as modules of PyTorch, for those with weights of their own."""

from __future__ import annotations

from attngen.nn.sparse_linear import SparseLinearAttention
from attngen.suggest import missing

__all__ = ["SparseLinearAttention"]
__getattr__ = missing(__name__, __all__)
