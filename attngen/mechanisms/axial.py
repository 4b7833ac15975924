"""Attention along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attngen import masks
from attngen.space import Grid
from attngen.spec import Spec


def axial(dims: Sequence[int], axis: int, *, score: Any = None, normalizer: Any = "softmax", scale: Any = None) -> Spec:
    """Attention along coordinate `axis` of the grid `dims`; see `masks.axial`. q, k, v as in `neighborhood`."""
    return Spec(masks.axial(dims, axis), score, normalizer, Grid(dims), scale, name="axial")
