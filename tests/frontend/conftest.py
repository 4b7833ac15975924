"""A tiny evaluator of expressions in plain Python, and a shorthand for traced text."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from attngen.frontend import MASK_OR_SCORE, Role, Traced, trace
from attngen.ir.expr import Const, Expr, Load, Op, Sym
from attngen.ir.text_expr import expr_text

MEANING: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "truediv": operator.truediv,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "pow": operator.pow,
    "minimum": min,
    "maximum": max,
    "neg": operator.neg,
    "abs": abs,
    "sign": lambda x: (x > 0) - (x < 0),
    "relu": lambda x: max(x, 0),
    **{name: getattr(operator, name) for name in ("lt", "le", "gt", "ge", "eq", "ne", "xor")},
    "and": lambda x, y: x and y,
    "or": lambda x, y: x or y,
    "not": operator.not_,
    "shl": operator.lshift,
    "shr": operator.rshift,
    "bit_and": operator.and_,
    "bit_or": operator.or_,
    "bit_xor": operator.xor,
    "bit_not": operator.invert,
    "to_float": float,
    "to_int": int,
    "to_bool": bool,
    **{name: getattr(math, name) for name in ("exp", "exp2", "expm1", "log2", "log1p", "sqrt", "tanh")},
    **{name: getattr(math, name) for name in ("sin", "cos", "erf")},
    "log": lambda x: math.log(x) if x > 0 else -math.inf if x == 0 else math.nan,
    "rsqrt": lambda x: 1 / math.sqrt(x),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "softplus": lambda x: math.log1p(math.exp(x)),
    "floor": lambda x: float(math.floor(x)),
    "ceil": lambda x: float(math.ceil(x)),
    "round": lambda x: float(round(x)),
}  # fmt: skip


def evaluate(expr: Expr, symbols: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
    """The value of an expression; only the branch that is taken is evaluated."""
    match expr:
        case Const(value=value):
            return value
        case Sym(name=name):
            return symbols[name]
        case Load(tensor=tensor, indices=indices):
            value = inputs[tensor]
            for index in indices:
                place = evaluate(index, symbols, inputs)
                assert place >= 0
                value = value[place]
            return value.item() if hasattr(value, "item") else value
        case Op(name="where", args=(condition, yes, no)):
            value = evaluate(yes if evaluate(condition, symbols, inputs) else no, symbols, inputs)
            return float(value) if expr.type == "float" else value
        case Op(name="and" | "or" as name, args=(left, right)):
            first = evaluate(left, symbols, inputs)
            return first if first is (name == "or") else evaluate(right, symbols, inputs)
        case Op(name=name, args=args):
            found = [evaluate(arg, symbols, inputs) for arg in args]
            if expr.type == "float" and name in ("add", "sub", "mul", "pow", "minimum", "maximum"):
                found = [float(value) for value in found]
            try:
                return MEANING[name](*found)
            except OverflowError:
                return math.inf
    raise AssertionError(expr)


@pytest.fixture(name="evaluate", scope="session")
def _evaluate() -> Callable[..., Any]:
    return evaluate


@pytest.fixture(scope="session")
def text() -> Callable[..., str]:
    """The text form of a function's expression."""

    def traced_text(function: Callable[..., Any], role: Role = MASK_OR_SCORE) -> str:
        return expr_text(trace(function, role).expr)

    return traced_text


@pytest.fixture(scope="session")
def value() -> Callable[..., Any]:
    """The value of a traced function, with its inputs read now."""

    def traced_value(traced: Traced, **symbols: Any) -> Any:
        return evaluate(traced.expr, symbols, {name: b.fetch() for name, b in traced.bindings.items()})

    return traced_value
