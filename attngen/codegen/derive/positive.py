"""A small proof that an expression is greater than zero whatever its symbols are."""

from __future__ import annotations

from attngen.ir.expr import Const, Expr, Op, Sym

SIZES = frozenset({"d", "n_q", "n_k", "n_b", "n_h", "n_visible"})


def is_positive(expr: Expr) -> bool:
    """True only if proven. Sizes count as positive: a kernel does nothing where one is zero."""
    match expr:
        case Const(value=value):
            return value > 0 and value != float("inf")
        case Sym(name=name):
            return name in SIZES
        case Op(name="exp" | "exp2" | "sigmoid"):
            return True
        case Op(name="sqrt" | "rsqrt" | "to_float", args=(a,)):
            return is_positive(a)
        case Op(name="mul" | "add" | "truediv" | "minimum", args=args):
            return all(is_positive(a) for a in args)
        case Op(name="maximum", args=args):
            return any(is_positive(a) for a in args)
        case _:
            return False
