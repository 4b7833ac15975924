"""The score program of a library or of a user: a number for every query and key, from the scaled dot product."""

from __future__ import annotations

from typing import Any

from attngen.frontend import SCORE
from attngen.ir.expr import Expr, substitute
from attngen.program import Program


class Score(Program):
    """What happens to the scaled dot product. `a >> b` first applies a, then b; b may be a plain function.

    The usual order is soft-cap, then additive biases: `soft_cap(30) >> alibi(slopes)`. The mask is kept apart from the
    score, so it has no place in this order.
    """

    __slots__ = ()
    kind = "score"
    role = SCORE

    def __rshift__(self, other: Any) -> Score:
        return self.joined(other, "{} >> {}", _then)

    def __rrshift__(self, other: Any) -> Score:
        return self.joined(other, "{} >> {}", _then, swap=True)


def _then(first: Expr, second: Expr) -> Expr:
    return substitute(second, {"score": first})
