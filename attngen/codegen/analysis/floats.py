"""Interval rules of the float operators."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import numpy as np

from attngen.codegen.analysis import interval as iv
from attngen.codegen.analysis.deferred import array
from attngen.codegen.analysis.interval import Array, Floats, Interval
from attngen.ir.expr import Op

Function = Callable[[Floats], Floats]


def float_operator(e: Op, args: list[Interval]) -> Interval:
    """Bounds of a float operator from those of its arguments, as floats."""
    rule = RULES.get(e.name)
    if rule is not None:
        return rule(*args)
    function = FUNCTIONS.get(e.name)
    return iv.ANY_FLOAT if function is None else _monotone(args[0], *function)


def _monotone(a: Interval, rule: Function, domain: float, floor: float, ceiling: float) -> Interval:
    """An increasing function: bounds at the end points; NaN below its domain."""
    with np.errstate(all="ignore"):
        lo, hi = rule(np.maximum(a.lo, domain)), rule(np.maximum(a.hi, domain))
    return iv.loosened(lo, hi, a.nan | (a.lo < domain), floor, ceiling)


def _erf(x: Floats) -> Floats:
    """erf to 1.5e-7 (Abramowitz and Stegun 7.1.26)."""
    t = 1 / (1 + 0.3275911 * np.abs(np.nan_to_num(x, posinf=9.0, neginf=-9.0)))
    poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    return array(np.sign(x) * (1 - poly * np.exp(-(np.minimum(np.abs(x), 27.0) ** 2))))


FUNCTIONS: dict[str, tuple[Function, float, float, float]] = {
    "exp": (np.exp, -inf, 0.0, inf),
    "exp2": (np.exp2, -inf, 0.0, inf),
    "expm1": (np.expm1, -inf, -1.0, inf),
    "log": (np.log, 0.0, -inf, inf),
    "log2": (np.log2, 0.0, -inf, inf),
    "log1p": (np.log1p, -1.0, -inf, inf),
    "sqrt": (np.sqrt, 0.0, 0.0, inf),
    "tanh": (np.tanh, -inf, -1.0, 1.0),
    "sigmoid": (lambda x: np.exp(-np.logaddexp(0.0, -x)), -inf, 0.0, 1.0),
    "softplus": (lambda x: np.logaddexp(0.0, x), -inf, 0.0, inf),
    "erf": (_erf, -inf, -1.0, 1.0),
}
"""(rule, start of the domain, least value, greatest value) of the increasing functions."""


def _rsqrt(a: Interval) -> Interval:
    with np.errstate(all="ignore"):
        lo, hi = 1 / np.sqrt(np.maximum(a.hi, 0.0)), 1 / np.sqrt(np.maximum(a.lo, 0.0))
    return iv.loosened(lo, hi, a.nan | (a.lo < 0), 0.0)


def _exactly(rule: Callable[[Array], Array]) -> Callable[[Interval], Interval]:
    return lambda a: iv.floats(rule(a.lo), rule(a.hi), a.nan)


def _wave(a: Interval) -> Interval:
    return iv.floats(np.full(a.lo.shape, -1.0), np.full(a.hi.shape, 1.0), a.nan | np.isinf(a.lo) | np.isinf(a.hi))


def _floor_divide(a: Interval, b: Interval) -> Interval:
    """Off by one where the quotient rounds to an integer from below."""
    q = iv.divide(a, b)
    return iv.floats(np.floor(q.lo) - 1, np.floor(q.hi) + 1, q.nan)


def _modulo(a: Interval, b: Interval) -> Interval:
    nan = a.nan | b.nan | ((b.lo <= 0) & (b.hi >= 0)) | np.isinf(a.lo) | np.isinf(a.hi)
    return iv.floats(np.minimum(b.lo, 0.0), np.maximum(b.hi, 0.0), nan | np.isinf(b.lo) | np.isinf(b.hi))


def _power(a: Interval, b: Interval) -> Interval:
    """Increasing or decreasing in each argument for a >= 0; unbounded otherwise."""
    with np.errstate(all="ignore"):
        corners = [np.power(np.maximum(x, 0.0), y) for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
        lo = np.minimum(np.minimum(corners[0], corners[1]), np.minimum(corners[2], corners[3]))
        hi = np.maximum(np.maximum(corners[0], corners[1]), np.maximum(corners[2], corners[3]))
    bad = (a.lo < 0) | a.nan | b.nan
    return iv.loosened(np.where(bad, -np.inf, lo), np.where(bad, np.inf, hi), bad)


def _safe_divide(a: Interval, b: Interval) -> Interval:
    """a / b, and 0 where b is 0; both are finite in a kernel."""
    return iv.divide(a, b)


def _round(a: Interval) -> Interval:
    return iv.floats(np.rint(a.lo), np.rint(a.hi), a.nan)


RULES: dict[str, Callable[..., Interval]] = {
    "to_float": lambda a: a,
    "add": iv.add,
    "sub": iv.subtract,
    "neg": iv.negate,
    "mul": iv.multiply,
    "truediv": iv.divide,
    "safe_div": _safe_divide,
    "floordiv": _floor_divide,
    "mod": _modulo,
    "pow": _power,
    "minimum": iv.smaller,
    "maximum": iv.larger,
    "abs": iv.absolute,
    "sign": iv.sign,
    "relu": lambda a: iv.larger(a, iv.floats(0.0, 0.0)),
    "rsqrt": _rsqrt,
    "sin": _wave,
    "cos": _wave,
    "floor": _exactly(np.floor),
    "ceil": _exactly(np.ceil),
    "round": _round,
}
