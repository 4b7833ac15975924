"""How the pointwise functions of torch, math and NumPy are spelled in operators of the IR. One table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from attngen.frontend.scalar import Proxy

Spelling = Callable[..., Any]


def _direct(op: str) -> Spelling:
    function = getattr(math, op, None)
    return lambda x: x.unary(op, function)


def _pair(op: str) -> Spelling:
    return lambda x, y: Proxy(x.tracer, x.tracer.op(op, x.expr, y.expr))


def _logical(op: str) -> Spelling:
    return lambda x, y: Proxy(x.tracer, x.tracer.op(op, x.cast("bool").expr, y.cast("bool").expr))


def where(condition: Proxy, x: Proxy, y: Proxy) -> Proxy:
    """`x if condition else y`."""
    return Proxy(x.tracer, x.tracer.op("where", condition.expr, x.expr, y.expr))


def _cond(condition: Proxy, yes: Spelling, no: Spelling, operands: Any = ()) -> Any:
    """`torch.cond`: both sides are computed."""
    found = [condition.lift(side(*operands)) for side in (yes, no)]
    assert found[0] is not None
    assert found[1] is not None
    return where(condition, found[0], found[1])


def _rounded(op: str) -> Spelling:
    """floor, ceil, round: integers are what they are."""
    return lambda x: x if x.expr.type == "int" else Proxy(x.tracer, x.tracer.op(op, x.expr))


def _round(x: Proxy, decimals: Any = None) -> Any:
    if decimals is not None and decimals.concrete("decimals"):
        raise x.tracer.error("round with decimals is not available; write torch.round(x * 10**d) / 10**d")
    return _rounded("round")(x)


def _trunc(x: Proxy) -> Any:
    return x if x.expr.type == "int" else where(x < 0, _rounded("ceil")(x), _rounded("floor")(x))


def _trunc_div(x: Proxy, y: Proxy) -> Any:
    if "float" in (x.expr.type, y.expr.type):
        return _trunc(x / y)
    size = abs(x) // abs(y)
    return where((x < 0) ^ (y < 0), -size, size)


def _fmod(x: Proxy, y: Proxy) -> Any:
    size = abs(x) % abs(y)
    return where(x < 0, -size, size)


def _div(x: Proxy, y: Proxy, *, rounding_mode: str | None = None) -> Any:
    if rounding_mode is None:
        return x / y
    return _trunc_div(x, y) if rounding_mode == "trunc" else x // y


def _clamp(x: Proxy, min: Proxy | None = None, max: Proxy | None = None) -> Any:
    x = x if min is None else maximum(x, min)
    return x if max is None else minimum(x, max)


def _softplus(x: Proxy, beta: Any = None, threshold: Any = None) -> Any:
    plain = beta is None or _one(beta)
    return _direct("softplus")(x) if plain else _direct("softplus")(x * beta) / beta


def _log(x: Proxy, base: Proxy | None = None) -> Any:
    return _direct("log")(x) if base is None else _direct("log")(x) / _direct("log")(base)


def _gelu(x: Proxy, approximate: str = "none") -> Any:
    if approximate == "tanh":
        return 0.5 * x * (1 + _direct("tanh")(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + _direct("erf")(x * math.sqrt(0.5)))


def _leaky_relu(x: Proxy, negative_slope: Any = 0.01, inplace: Any = False) -> Any:
    return where(x > 0, x, x * negative_slope)


def _elu(x: Proxy, alpha: Any = 1.0, inplace: Any = False) -> Any:
    return where(x > 0, x, alpha * _direct("expm1")(x))


def _float_power(x: Proxy, y: Proxy) -> Any:
    return x.cast("float") ** y.cast("float")


def _fmax(x: Proxy, y: Proxy) -> Any:
    return where((x >= y) | (y != y), x, y)


def _fmin(x: Proxy, y: Proxy) -> Any:
    return where((x <= y) | (y != y), x, y)


def _like(value: Any) -> Spelling:
    def spelled(x: Proxy, dtype: Any = None, **options: Any) -> Any:
        from attngen.frontend.methods import to

        made = x.lift(value)
        assert made is not None
        return made.cast(x.expr.type) if dtype is None else to(made, dtype)

    return spelled


maximum = _pair("maximum")
minimum = _pair("minimum")

FUNCTIONS: dict[str, Spelling] = {
    **{
        op: _direct(op)
        for op in ("exp", "exp2", "expm1", "log2", "log1p", "sqrt", "rsqrt", "tanh", "sin", "cos", "sigmoid", "erf")
    },
    "log": lambda x: _direct("log")(x),
    "sign": _direct("sign"),
    "expit": _direct("sigmoid"),
    "sgn": _direct("sign"),
    "relu": lambda x, inplace=False: Proxy(x.tracer, x.tracer.op("relu", x.expr)),
    "abs": abs, "absolute": abs, "fabs": abs,
    "neg": lambda x: -x, "negative": lambda x: -x, "positive": lambda x: x,
    "floor": _rounded("floor"), "ceil": _rounded("ceil"), "round": _round, "rint": _rounded("round"),
    "trunc": _trunc, "fix": _trunc, "frac": lambda x: x - _trunc(x),
    "softplus": _softplus,
    "square": lambda x: x * x,
    "reciprocal": lambda x: 1.0 / x,
    "log10": lambda x: _direct("log2")(x) * math.log10(2),
    "tan": lambda x: _direct("sin")(x) / _direct("cos")(x),
    "sinh": lambda x: 0.5 * (_direct("exp")(x) - _direct("exp")(-x)),
    "cosh": lambda x: 0.5 * (_direct("exp")(x) + _direct("exp")(-x)),
    "erfc": lambda x: 1.0 - _direct("erf")(x),
    "logsigmoid": lambda x: -_direct("softplus")(-x),
    "log_sigmoid": lambda x: -_direct("softplus")(-x),
    "silu": lambda x, inplace=False: x * _direct("sigmoid")(x),
    "gelu": _gelu,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "softsign": lambda x: x / (1 + abs(x)),
    "relu6": lambda x, inplace=False: _clamp(x, x.lift(0), x.lift(6)),
    "hardtanh": lambda x, min_val=-1.0, max_val=1.0, inplace=False: _clamp(x, x.lift(min_val), x.lift(max_val)),
    "isnan": lambda x: x != x,
    "isinf": lambda x: abs(x) == math.inf,
    "isfinite": lambda x: abs(x) < math.inf,
    "add": lambda x, y, *, alpha=1: x + y if _one(alpha) else x + alpha * y,
    "sub": lambda x, y, *, alpha=1: x - y if _one(alpha) else x - alpha * y,
    "rsub": lambda x, y: y - x,
    "mul": lambda x, y: x * y, "multiply": lambda x, y: x * y,
    "subtract": lambda x, y: x - y,
    "div": _div, "divide": _div, "true_divide": _div, "truediv": _div,
    "floor_divide": lambda x, y: x // y, "floordiv": lambda x, y: x // y,
    "remainder": lambda x, y: x % y, "mod": lambda x, y: x % y,
    "fmod": _fmod,
    "pow": lambda x, y: x ** y, "power": lambda x, y: x ** y, "float_power": _float_power,
    "maximum": maximum, "minimum": minimum, "fmax": _fmax, "fmin": _fmin,
    "clamp": _clamp, "clip": _clamp,
    "clamp_min": lambda x, min: maximum(x, min), "clamp_max": lambda x, max: minimum(x, max),
    "hypot": lambda x, y: _direct("sqrt")(x * x + y * y),
    "lerp": lambda x, y, weight: x + weight * (y - x),
    "where": where,
    "cond": _cond,
    "masked_fill": lambda x, mask, value: where(mask, value, x),
    "heaviside": lambda x, values: where(x == 0, values, (x > 0).cast("float")),
    "lt": lambda x, y: x < y, "le": lambda x, y: x <= y, "gt": lambda x, y: x > y, "ge": lambda x, y: x >= y,
    "eq": lambda x, y: x == y, "ne": lambda x, y: x != y,
    "less": lambda x, y: x < y, "less_equal": lambda x, y: x <= y, "greater": lambda x, y: x > y,
    "greater_equal": lambda x, y: x >= y, "equal": lambda x, y: x == y, "not_equal": lambda x, y: x != y,
    "logical_and": _logical("and"), "logical_or": _logical("or"), "logical_xor": _logical("xor"),
    "logical_not": lambda x: ~x.cast("bool"),
    "bitwise_and": lambda x, y: x & y, "bitwise_or": lambda x, y: x | y, "bitwise_xor": lambda x, y: x ^ y,
    "bitwise_not": lambda x: ~x, "invert": lambda x: ~x, "and": lambda x, y: x & y, "or": lambda x, y: x | y,
    "xor": lambda x, y: x ^ y,
    "bitwise_left_shift": lambda x, y: x << y, "bitwise_right_shift": lambda x, y: x >> y,
    "lshift": lambda x, y: x << y, "rshift": lambda x, y: x >> y,
    "zeros_like": _like(0), "ones_like": _like(1),
    "full_like": lambda x, fill_value, **options: _like(fill_value)(x, **options),
}  # fmt: skip

MATH: dict[str, Spelling] = {
    "floor": lambda x: x.__floor__(),
    "ceil": lambda x: x.__ceil__(),
    "trunc": lambda x: x.cast("int", int),
    "log": _log,
    "pow": _float_power,
    "fabs": lambda x: abs(x).cast("float"),
    "isclose": lambda x, y, *, rel_tol=1e-9, abs_tol=0.0: (
        abs(x - y) <= maximum(rel_tol * maximum(abs(x), abs(y)), abs_tol)
    ),
}


def _one(alpha: Any) -> bool:
    return alpha == 1 if not isinstance(alpha, Proxy) else getattr(alpha.expr, "value", None) == 1
