"""What operators make of spans."""

from __future__ import annotations

import math
from collections.abc import Callable

from attngen.ir.span import INF, LINE, Span, at_least, between, exactly

BOTH, YES, NO = between(0.0, 1.0), exactly(1.0), exactly(0.0)
"""What a bool can be."""
OPPOSITE = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "eq": "ne", "ne": "eq"}


def applied(name: str, spans: list[Span]) -> Span:
    """Of an operator that gives a number, on numbers of the spans."""
    if name in RULES:
        return RULES[name](*spans)
    if name not in RISING:
        return LINE
    low, high, function = RISING[name]
    reached, limits = spans[0].through(function), between(low, high, open=name not in STEPS)
    if name in STEPS:
        return Span(reached.low, reached.high, math.isinf(reached.low), math.isinf(reached.high))
    return limits if (reached & limits).empty else reached & limits


def in_domain(name: str, spans: list[Span]) -> bool:
    """Whether an operator gives a number for all numbers of the spans. Overflow is left aside."""
    match name, spans:
        case (("truediv" | "floordiv" | "mod"), [_, b]):
            return b.nonzero
        case (("log" | "log2" | "rsqrt"), [a]):
            return a.positive
        case "sqrt", [a]:
            return a.nonnegative
        case "log1p", [a]:
            return a.low > -1 or (a.low == -1 and a.low_open)
        case "pow", [a, b]:
            whole = b.low == b.high and b.low.is_integer()
            return a.positive or (b.nonnegative and (whole or a.nonnegative)) or (whole and a.nonzero)
    return True


def logical(name: str, spans: list[Span]) -> Span:
    """Of an operator that gives a bool, on numbers of the spans."""
    match name, spans:
        case "not", [a]:
            return NO if a == YES else YES if a == NO else BOTH
        case (("and" | "or"), [*sides]):
            strong, weak = (NO, YES) if name == "and" else (YES, NO)
            return strong if strong in sides else weak if all(s == weak for s in sides) else BOTH
        case name, [a, b] if name in OPPOSITE:
            return _compared(name, a, b)
    return BOTH


def _compared(name: str, a: Span, b: Span) -> Span:
    less = a.high < b.low or (a.high == b.low and (a.high_open or b.low_open))
    more = b.high < a.low or (b.high == a.low and (b.high_open or a.low_open))
    same = a.low == a.high == b.low == b.high and not (a.empty or b.empty)
    always, never = {
        "lt": (less, b.high <= a.low),
        "le": (a.high <= b.low, more),
        "gt": (more, a.high <= b.low),
        "ge": (b.high <= a.low, less),
        "eq": (same, less or more),
        "ne": (less or more, same),
    }[name]
    return YES if always else NO if never else BOTH


def power(base: Span, exponent: float) -> Span:
    """Of base ** exponent, which is not a number for a negative base and a broken exponent."""
    if exponent < 0:
        return power(base, -exponent).inverse()
    if exponent == 0:
        return YES
    if not exponent.is_integer():
        return (base & at_least(0)).through(lambda x: x**exponent)
    if exponent % 2 == 0:
        return base.maximum(-base).maximum(NO).through(lambda x: x**exponent)
    return base.through(lambda x: x**exponent)


def any_power(base: Span) -> Span:
    """Of base ** exponent for an exponent that is not known."""
    return Span(0.0, INF) if base.positive else at_least(0) if base.nonnegative else LINE


def _sign(x: Span) -> Span:
    low = 1.0 if x.positive else 0.0 if x.nonnegative else -1.0
    high = -1.0 if (-x).positive else 0.0 if x.high <= 0 else 1.0
    return between(low, high)


def _minimum(a: Span, b: Span) -> Span:
    return -((-a).maximum(-b))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _logarithm(log: Callable[[float], float], pole: float = 0.0) -> Callable[[Span], Span]:
    return lambda x: (x & Span(pole, INF)).through(lambda v: log(v) if v > pole else -INF)


RULES: dict[str, Callable[..., Span]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a + -b,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
    "truediv": lambda a, b: a * b.inverse(),
    "safe_div": lambda a, b: a * b.inverse() | NO,
    "maximum": lambda a, b: a.maximum(b),
    "minimum": _minimum,
    "abs": lambda a: a.maximum(-a).maximum(NO),
    "relu": lambda a: a.maximum(NO),
    "sign": _sign,
    "to_float": lambda a: a,
    "to_bool": lambda a: BOTH,
    "sqrt": lambda a: power(a, 0.5),
    "rsqrt": lambda a: power(a, -0.5),
    "log": _logarithm(math.log),
    "log2": _logarithm(math.log2),
    "log1p": _logarithm(math.log1p, -1.0),
    "sin": lambda a: between(-1, 1),
    "cos": lambda a: between(-1, 1),
    "uniform": lambda a: Span(0.0, 1.0, False, True),
    "dim_softmax": lambda a: between(0, 1),
}
RISING: dict[str, tuple[float, float, Callable[[float], float]]] = {
    "exp": (0, INF, math.exp),
    "exp2": (0, INF, lambda x: 2.0**x),
    "expm1": (-1, INF, math.expm1),
    "tanh": (-1, 1, math.tanh),
    "sigmoid": (0, 1, _sigmoid),
    "softplus": (0, INF, _softplus),
    "erf": (-1, 1, math.erf),
    "floor": (-INF, INF, lambda x: float(math.floor(x)) if math.isfinite(x) else x),
    "ceil": (-INF, INF, lambda x: float(math.ceil(x)) if math.isfinite(x) else x),
    "round": (-INF, INF, lambda x: float(round(x)) if math.isfinite(x) else x),
    "to_int": (-INF, INF, lambda x: float(math.trunc(x)) if math.isfinite(x) else x),
}
"""Rising functions, between two numbers that they do not reach."""
STEPS = ("floor", "ceil", "round", "to_int")
