"""The shift law: how the summands of a Streaming normalizer change when its anchor moves.

A running anchor is only legal where phi(s, m + t) = exp(-k t) * phi(s, m) for one k and every s, t. `degree` proves it
by structure: it gives that k, because every rule below is an equation between the two sides. Then a running sum taken
at anchor m is brought to anchor m' by the factor exp(k (m - m')).
"""

from __future__ import annotations

from attngen.ir.expr import Const, Expr, Op, Sym, symbols


def degree(expr: Expr) -> float | None:
    """The k of the shift law for m, or None where the structure does not show one. 0 is "does not depend on m"."""
    if "m" not in symbols(expr):
        return 0.0
    match expr:
        case Op(name="exp", args=(argument,)):
            slope = _slope(argument)
            return None if slope is None else -slope
        case Op(name="mul", args=(a, b)):
            return _sum(degree(a), degree(b))
        case Op(name="truediv" | "safe_div", args=(a, b)):
            divisor = degree(b)
            return None if divisor is None else _sum(degree(a), -divisor)
        case Op(name="add" | "sub" | "maximum" | "minimum", args=args):
            # x e^-kt + y e^-kt; the factor is positive, so it also leaves a maximum or minimum. Zero has every degree.
            degrees = {degree(a) for a in args if not _is_zero(a)}
            return degrees.pop() if len(degrees) == 1 else None
        case Op(name="neg" | "relu" | "abs", args=(a,)):
            return degree(a)
        case Op(name="sign", args=(a,)):
            return None if degree(a) is None else 0.0
        case Op(name="where", args=(condition, a, b)) if "m" not in symbols(condition):
            degrees = {degree(x) for x in (a, b) if not _is_zero(x)}
            return degrees.pop() if len(degrees) == 1 else None
        case _:
            return None


def _slope(expr: Expr) -> float | None:
    """The c of f(m + t) = f(m) + c t, or None."""
    if "m" not in symbols(expr):
        return 0.0
    match expr:
        case Sym(name="m"):
            return 1.0
        case Op(name="add", args=(a, b)):
            return _sum(_slope(a), _slope(b))
        case Op(name="sub", args=(a, b)):
            slope = _slope(b)
            return None if slope is None else _sum(_slope(a), -slope)
        case Op(name="neg", args=(a,)):
            slope = _slope(a)
            return None if slope is None else -slope
        case Op(name="mul", args=(Const(value=c), a)) | Op(name="mul", args=(a, Const(value=c))):
            slope = _slope(a)
            return None if slope is None else float(c) * slope
        case _:
            return None


def _is_zero(expr: Expr) -> bool:
    return isinstance(expr, Const) and expr.value == 0


def _sum(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b
