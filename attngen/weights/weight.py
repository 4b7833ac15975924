"""The weight of a library or of a user: a factor for every query and key, after the normalizer."""

from __future__ import annotations

from typing import Any

from attngen.frontend import WEIGHT
from attngen.ir.expr import Expr, op
from attngen.program import Program


class Weight(Program):
    """Multiplies the normalised weights: O = sum over keys of weight * P * V. The row is not normalised again.

    `a * b` multiplies both; b may be a plain function.
    """

    __slots__ = ()
    kind = "weight"
    role = WEIGHT

    def __mul__(self, other: Any) -> Weight:
        return self.joined(other, "{} * {}", _times)

    def __rmul__(self, other: Any) -> Weight:
        return self.joined(other, "{} * {}", _times, swap=True)


def _times(a: Expr, b: Expr) -> Expr:
    return op("mul", a, b)
