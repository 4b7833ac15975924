"""Factors of a weight that do not depend on scores: gates, decays, dropout, a mask multiplied into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attngen.ir.expr import Const, Expr, Op, const
from attngen.lift.fold import fold
from attngen.lift.reductions import markers

if TYPE_CHECKING:
    from attngen.lift.elements import Elements

ONE, ZERO = const(1.0), const(0.0)


@dataclass(frozen=True, slots=True)
class Factor:
    """One factor, a number for every query and key."""

    expr: Expr

    def seen(self) -> Expr:
        """The condition of a factor that is 1 where it holds and 0 elsewhere."""
        match self.expr:
            case Op(name="where", args=(condition, one, _)):
                return condition if one == ONE else fold("not", (condition,))
            case Op(args=(condition,)):
                return condition
        raise AssertionError(self.expr)


def is_condition(expr: Expr) -> bool:
    """Whether a factor is 1 or 0, by a condition."""
    match expr:
        case Op(name="where", args=(_, Const(value=a), Const(value=b))):
            return {a, b} == {0, 1}
        case Op(name="to_float" | "to_int", args=(condition,)):
            return condition.type == "bool"
    return False


def factors(reader: Elements, expr: Expr) -> tuple[tuple[Factor, ...], Expr]:
    """The factors around a weight, from the outside in, and what is left."""
    found: list[Factor] = []
    while True:
        match expr:
            case Op(name="mul", args=(a, b)) if not reader.is_score(a):
                found.append(Factor(_float(a)))
                expr = b
            case Op(name="mul", args=(a, b)) if not reader.is_score(b):
                found.append(Factor(_float(b)))
                expr = a
            case Op(name="mul", args=(a, Op(name="truediv", args=(b, c)))) if markers(c):
                expr = fold("truediv", (fold("mul", (a, b)), c), expr.source)
            case Op(name="truediv", args=(a, b)) if not reader.is_score(b):
                found.append(Factor(fold("truediv", (ONE, b), expr.source)))
                expr = a
            case Op(name="neg", args=(a,)):
                found.append(Factor(const(-1.0)))
                expr = a
            case Op(name="where", args=(condition, a, Const(value=0))) if not reader.is_score(condition):
                found.append(Factor(fold("where", (condition, ONE, ZERO), expr.source)))
                expr = a
            case Op(name="where", args=(condition, Const(value=0), b)) if not reader.is_score(condition):
                found.append(Factor(fold("where", (condition, ZERO, ONE), expr.source)))
                expr = b
            case _:
                return tuple(found), expr


def _float(expr: Expr) -> Expr:
    return expr if expr.type == "float" else fold("to_float", (expr,), expr.source)
