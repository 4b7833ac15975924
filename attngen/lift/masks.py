"""A score with its mask inside becomes a score and a mask: what is set to -inf, or far below any score, is absent."""

from __future__ import annotations

from attngen.ir.expr import Const, Expr, Op, const
from attngen.lift.fold import fold

FAR = -1e4
"""A score at or below this is meant as "masked": exp of the distance to any other score of the row is 0 in float32.

People write -1e9, -10000.0 and torch.finfo(dtype).min where -inf would give NaN in a row without keys. Such a row is 0
in a kernel.
"""
SEEN, UNSEEN, NOTHING = const(True), const(False), const(0.0)


def split(expr: Expr, factor: float = 1.0) -> tuple[Expr, Expr]:
    """(mask, score) of a score: the mask is true where the key is present. The score is multiplied by `factor` later:
    a temperature may bring a constant near again that was far below."""
    match expr:
        case Op(name="where", args=(condition, a, b)):
            return _chosen(condition, a, b, expr, factor)
        case Op(name="add", args=(a, b)):
            (seen_a, rest_a), (seen_b, rest_b) = split(a, factor), split(b, factor)
            if seen_a == SEEN == seen_b:
                return SEEN, expr
            return _both(seen_a, seen_b), fold("add", (rest_a, rest_b), expr.source)
        case Op(name="sub", args=(a, b)):
            seen, rest = split(a, factor)
            (far, other) = split(_negative(b), factor)
            if far != SEEN:
                return _both(seen, far), fold("add", (rest, other), expr.source)
            return (SEEN, expr) if seen == SEEN else (seen, fold("sub", (rest, b), expr.source))
        case Op(name="mul" | "truediv" as name, args=(a, Const(value=value) as by)) if value > 0:
            seen, rest = split(a, factor * value if name == "mul" else factor / value)
            return (SEEN, expr) if seen == SEEN else (seen, fold(name, (rest, by), expr.source))
        case Op(name="mul", args=(Const(value=value) as by, a)) if value > 0:
            seen, rest = split(a, factor * value)
            return (SEEN, expr) if seen == SEEN else (seen, fold("mul", (by, rest), expr.source))
    return SEEN, expr


def _negative(expr: Expr) -> Expr:
    """-expr, where that is a choice of constants; else the expression, which is never far below."""
    match expr:
        case Op(name="where", args=(_, Const(), Const())):
            return fold("neg", (expr,), expr.source)
    return NOTHING


def _side(expr: Expr, factor: float) -> tuple[Expr, Expr]:
    """One side of a choice; a constant far below others is no score."""
    match expr:
        case Const(value=value) if value * factor <= FAR:
            return UNSEEN, NOTHING
    return split(expr, factor)


def _chosen(condition: Expr, a: Expr, b: Expr, expr: Expr, factor: float) -> tuple[Expr, Expr]:
    (seen_a, rest_a), (seen_b, rest_b) = _side(a, factor), _side(b, factor)
    if seen_a == SEEN == seen_b:
        return SEEN, expr
    no = fold("not", (condition,), expr.source)
    if seen_b == UNSEEN:
        return _both(condition, seen_a), rest_a
    if seen_a == UNSEEN:
        return _both(no, seen_b), rest_b
    seen = fold("or", (_both(condition, seen_a), _both(no, seen_b)), expr.source)
    return seen, fold("where", (condition, rest_a, rest_b), expr.source)


def _both(a: Expr, b: Expr) -> Expr:
    return fold("and", (a, b), b.source)
