"""Operators with what is known folded in, so that a mask is recognised in the many ways in which people write one.

A matrix of two constants chosen by a condition, `where(c, 1, 0)`, is kept in that form through arithmetic:
`(1.0 - mask.float()) * -1e9`, `torch.ones(n, n).tril() == 0` and `torch.log(mask)` all come out as conditions.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from attngen.errors import Source
from attngen.ir.expr import Const, Expr, Op, const, op

PYTHON: dict[str, Callable[..., Any]] = {
    **{name: getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "neg")},
    **{name: getattr(operator, name) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    **{name: getattr(math, name) for name in ("exp", "tanh", "sqrt", "log2", "log1p", "expm1")},
    "abs": abs,
    "log": lambda x: -math.inf if x == 0 else math.log(x),
    "relu": lambda x: max(x, 0),
    "minimum": min,
    "maximum": max,
    "to_float": float,
    "to_int": int,
    "to_bool": bool,
    "not": operator.not_,
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
}
"""What an operator does to constants. Others are left to the kernel."""

Pick = tuple[Expr, Any, Any]
"""A condition, and the constants where it is true and where it is false."""


def fold(name: str, args: tuple[Expr, ...], source: Source | None = None) -> Expr:
    """The operator on its arguments, or something equal that is simpler."""
    plain = op(name, *args, source=source)  # typed, and refused where the types are wrong
    return _simplified(name, args, plain, source) or plain


def _simplified(name: str, args: tuple[Expr, ...], plain: Op, source: Source | None) -> Expr | None:
    match name, args:
        case "and" | "or", (a, b):
            for side, other in ((a, b), (b, a)):
                if isinstance(side, Const):
                    return other if side.value is (name == "and") else side
            return a if a == b else None
        case "not", (Op(name="not", args=(a,)),):
            return a
        case "where", (Const(value=value), a, b) if a.type == b.type:
            return a if value else b
        case "where", (_, a, b) if a == b:
            return a
        case "to_bool", (Op(name="add", args=(a, b)),) if a.type == b.type == "bool":
            return fold("or", (a, b), source)
        case "to_bool", (Op(name="mul", args=(a, b)),) if a.type == b.type == "bool":
            return fold("and", (a, b), source)
        case "to_bool" | "to_int" | "to_float", (a,) if a.type == plain.type:
            return a
        case "add", (a, Const(value=0)) if a.type == plain.type:
            return a
        case "add", (Const(value=0), a) if a.type == plain.type:
            return a
        case "mul", (a, Const(value=1)) if a.type == plain.type:
            return a
        case "mul", (Const(value=1), a) if a.type == plain.type:
            return a
    return None if name == "where" else _computed(name, args, plain, source)


def _computed(name: str, args: tuple[Expr, ...], plain: Op, source: Source | None) -> Expr | None:
    """The operator on constants, and on constants picked by one condition."""
    function = None if name == "not" and not isinstance(args[0], Const) else PYTHON.get(name)
    picks = [picked(arg) for arg in args]
    if function is None or any(pick is None for pick in picks):
        return None
    found = [pick for pick in picks if pick is not None]
    conditions = {pick[0] for pick in found if not isinstance(pick[0], Const)}
    if len(conditions) > 1:
        return None
    yes, no = _value(function, [pick[1] for pick in found]), _value(function, [pick[2] for pick in found])
    if yes is None or no is None:
        return None
    if not conditions:
        return _constant(yes, plain, source)
    condition = conditions.pop()
    if plain.type != "bool":
        return op("where", condition, _constant(yes, plain, source), _constant(no, plain, source), source=source)
    if yes == no:
        return const(bool(yes), source)
    return condition if yes else fold("not", (condition,), source)


def picked(expr: Expr) -> Pick | None:
    """The expression as a choice between two constants."""
    match expr:
        case Const(value=value):
            return const(True), value, value
        case Op(name="where", args=(condition, Const(value=yes), Const(value=no))):
            return condition, yes, no
        case Op(name="to_float" | "to_int", args=(inner,)) if inner.type == "bool":
            return inner, 1, 0
        case _ if expr.type == "bool":
            return expr, True, False
    return None


def _value(function: Callable[..., Any], values: list[Any]) -> Any:
    """The result, or None where there is none that every kernel agrees on."""
    try:
        result = function(*values)
    except (ArithmeticError, ValueError):
        return None
    return None if isinstance(result, complex) or result != result else result


def _constant(value: Any, plain: Op, source: Source | None) -> Expr:
    return const({"bool": bool, "int": int, "float": float}[plain.type](value), source)
