"""A row without visible keys gives 0, whatever its normalizer makes of empty sums.

Rows without mass are dropped by every kernel; what is left are normalizers that have no mass. Most of them give 0 for
an empty sum by themselves, which is seen from the expression; for the others the visible keys are counted.
"""

from __future__ import annotations

from dataclasses import replace

from attngen.ir.expr import Const, Expr, Op, Sym, const, op, postorder, sym
from attngen.ir.nodes import Grid, Sequence, Space
from attngen.ir.normalizer import Streaming

THROUGH_ZERO = frozenset({"neg", "abs", "relu", "sign", "sqrt", "tanh", "sin", "erf", "expm1", "log1p", "to_float"})
"""Functions that are 0 at 0."""

TAME = frozenset(
    {"add", "sub", "mul", "safe_div", "neg", "abs", "relu", "sign", "minimum", "maximum", "where", "to_float", "to_int"}
    | {"sigmoid", "tanh", "erf", "sin", "cos", "exp", "softplus"}
    | {"lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not"}
)
"""Operators that give finite numbers for finite ones (exp of what is not huge)."""


def with_empty_rows(last: Streaming, space: Space) -> Streaming:
    """The declaration with 0 for a row without keys."""
    # Only packed and paged sequences can be without any key: other calls without keys are not launched.
    nonzero = frozenset({"n_q", "n_h", "n_b"} | ({"n_k"} if isinstance(space, Sequence | Grid) else set()))
    if last.psi is not None or vanishes(last.finalize, nonzero):
        return last
    return replace(last, finalize=op("where", op("gt", sym("count"), const(0.0)), last.finalize, const(0.0)))


def vanishes(expr: Expr, nonzero: frozenset[str]) -> bool:
    """Whether the expression is seen to be 0 for empty sums, where the symbols `nonzero` are not 0."""
    match expr:
        case Sym(name=name):
            return name in ("acc", "vsum")
        case Const(value=value):
            return value == 0
        case Op(name="mul", args=(a, b)):
            return (vanishes(a, nonzero) and _is_tame(b, nonzero)) or (vanishes(b, nonzero) and _is_tame(a, nonzero))
        case Op(name="safe_div", args=(a, _)):
            return vanishes(a, nonzero)
        case Op(name="truediv", args=(a, b)):
            return vanishes(a, nonzero) and _is_nonzero(b, nonzero)
        case Op(name="add" | "sub" | "minimum" | "maximum", args=(a, b)):
            return vanishes(a, nonzero) and vanishes(b, nonzero)
        case Op(name="where", args=(_, a, b)):
            return vanishes(a, nonzero) and vanishes(b, nonzero)
        case Op(name=name, args=(a,)) if name in THROUGH_ZERO:
            return vanishes(a, nonzero)
        case _:
            return False


def _is_tame(expr: Expr, nonzero: frozenset[str]) -> bool:
    """Whether finite numbers give a finite one: 0 times it is 0."""
    for node in postorder(expr):
        match node:
            case Op(name="truediv", args=(_, b)) if _is_nonzero(b, nonzero):
                pass
            case Op(name=name) if name not in TAME:
                return False
    return True


def _is_nonzero(expr: Expr, nonzero: frozenset[str]) -> bool:
    match expr:
        case Const(value=value):
            return value != 0
        case Sym(name=name):
            return name in nonzero
        case Op(name="to_float" | "sqrt" | "rsqrt", args=(a,)):
            return _is_nonzero(a, nonzero)
        case Op(name="maximum", args=(_, Const(value=value))) | Op(name="maximum", args=(Const(value=value), _)):
            return value > 0
        case Op(name="mul", args=(a, b)):
            return _is_nonzero(a, nonzero) and _is_nonzero(b, nonzero)
        case _:
            return False
