"""Sample calls of a spec: shapes that fit it and random tensors of those shapes."""

from __future__ import annotations

from attngen.samples.limits import Limits, limits
from attngen.samples.shape import Shape
from attngen.samples.tensors import Sample, sample

__all__ = ["Limits", "Sample", "Shape", "limits", "sample"]
