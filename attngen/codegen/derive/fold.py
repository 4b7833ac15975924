"""Evaluation of small integer expressions, such as the bounds of a view, for given sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attngen.errors import SpecError
from attngen.ir.expr import Const, Expr, Op, Sym

INTEGER: dict[str, Callable[..., int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b if b else 0,
    "mod": lambda a, b: a % b if b else a,
    "neg": lambda a: -a,
    "minimum": min,
    "maximum": max,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "where": lambda c, a, b: a if c else b,
}


def fold_int(expr: Expr, sizes: Mapping[str, int]) -> int:
    """The value of an integer expression over sizes; raises `SpecError` for anything else."""
    match expr:
        case Const(type="int", value=value):
            return int(value)
        case Sym(name=name) if name in sizes:
            return sizes[name]
        case Op(name=name, args=args) if name in INTEGER:
            return INTEGER[name](*(fold_int(a, sizes) for a in args))
        case _:
            raise SpecError(f"a view may use integer arithmetic over {', '.join(sizes)} only", source=expr.source)
