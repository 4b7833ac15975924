"""A row without visible keys gives 0 and the log-sum-exp of nothing, whatever its normalizer makes of empty sums.

A kernel can drop rows without mass, which costs nothing, where all of them would give 0 or see no key. Normalizers that
have no mass mostly give 0 for an empty sum by themselves, which is seen from the expression. For all others the visible
keys are counted.
"""

from __future__ import annotations

import math
from dataclasses import replace

from attngen.codegen.derive.laws import scores_of
from attngen.ir.expr import Const, Expr, Op, Sym, const, op, postorder, substitute, sym
from attngen.ir.nodes import Grid, Sequence, Space
from attngen.ir.normalizer import Streaming
from attngen.ir.signs import span_of

THROUGH_ZERO = frozenset({"neg", "abs", "relu", "sign", "sqrt", "tanh", "sin", "erf", "expm1", "log1p", "to_float"})
"""Functions that are 0 at 0."""

TAME = frozenset(
    {"add", "sub", "mul", "safe_div", "neg", "abs", "relu", "sign", "minimum", "maximum", "where", "to_float", "to_int"}
    | {"sigmoid", "tanh", "erf", "sin", "cos", "exp", "softplus"}
    | {"lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not"}
)
"""Operators that give finite numbers for finite ones (exp of what is not huge)."""


def with_empty_rows(last: Streaming, space: Space) -> tuple[Streaming, bool]:
    """The declaration with 0 for a row without keys; and whether rows without mass are to be dropped."""
    # Only packed and paged sequences can be without any key: other calls without keys are not launched.
    nonzero = frozenset({"n_q", "n_h", "n_b"} | ({"n_k"} if isinstance(space, Sequence | Grid) else set()))
    drops = last.psi is not None and (
        _has_mass(last) or all(_drops(part, nonzero) for part in (last.finalize, last.lse) if part is not None)
    )
    # A sink gives mass to a row without keys.
    stays = not drops or (last.sink is not None and not vanishes(last.finalize, nonzero | {"mass"}))
    if not stays or (last.psi is None and last.lse is None and vanishes(last.finalize, nonzero)):
        return last, drops
    seen = op("gt", sym("count"), const(0.0))
    lse = last.lse
    if lse is not None and not drops:
        massive = seen if last.sink is None else op("or", seen, op("gt", sym("mass"), const(0.0)))
        lse = op("where", massive, lse, const(-math.inf))
    return replace(last, finalize=op("where", seen, last.finalize, const(0.0)), lse=lse), drops


def _has_mass(last: Streaming) -> bool:
    """Whether every row with keys has mass: that of the key at the anchor does not underflow."""
    if last.psi is None or last.anchor is None:
        return False
    return span_of(last.psi, {sym("s"): scores_of(last)}).positive


def _drops(part: Expr, nonzero: frozenset[str]) -> bool:
    """Whether a row without mass gives 0 here, or nothing that a row with keys may give, which the laws then refuse."""
    massless = substitute(part, {"mass": const(0.0)})
    return vanishes(massless, nonzero) or any(
        vanishes(node.args[-1], nonzero)
        for node in postorder(massless)
        if isinstance(node, Op) and node.name in ("truediv", "log", "log2")
    )


def vanishes(expr: Expr, nonzero: frozenset[str]) -> bool:
    """Whether the expression is seen to be 0 for empty sums, where the symbols `nonzero` are not 0."""
    match expr:
        case Sym(name=name):
            return name in ("acc", "vsum")
        case Const(value=value):
            return value == 0
        case Op(name="mul", args=(a, b)):
            return (vanishes(a, nonzero) and _is_tame(b, nonzero)) or (vanishes(b, nonzero) and _is_tame(a, nonzero))
        case Op(name="safe_div", args=(a, b)):
            return vanishes(a, nonzero) or vanishes(b, nonzero)
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
