"""The operators of the expression tree: their arity, and which type they give for which argument types.

One table, read by the tracer (spelling), the verifier (typing), the reference and every printer (meaning). Semantics
are Python's and torch's: `floordiv` and `mod` follow the sign of the divisor (an integer divided by 0 gives 0),
`truediv` of integers is a float, `to_int` truncates, `round` rounds half to even, `maximum` and `minimum` pass NaN on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Type = Literal["bool", "int", "float"]
RANK: dict[Type, int] = {"bool": 0, "int": 1, "float": 2}
Rule = Callable[[tuple[Type, ...]], Type | None]
"""Result type for argument types, or None where the operator does not take them."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One row of the table: `infix` is how the text form and C-like printers write it, if it is an infix operator."""

    name: str
    arity: int
    rule: Rule
    infix: str | None = None


def promote(types: tuple[Type, ...]) -> Type:
    """The widest of the types, as torch promotes: bool < int < float."""
    return max(types, key=RANK.__getitem__)


def _numeric(types: tuple[Type, ...]) -> Type | None:
    """Arithmetic: bools count as integers."""
    return promote((*types, "int"))


def _integral(types: tuple[Type, ...]) -> Type | None:
    return None if "float" in types else "int"


def _logical(types: tuple[Type, ...]) -> Type | None:
    return "bool" if set(types) == {"bool"} else None


def _to(result: Type) -> Rule:
    return lambda types: result


def _where(types: tuple[Type, ...]) -> Type | None:
    return promote(types[1:]) if types[0] == "bool" else None


INFIX: dict[str, str] = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "truediv": "/",
    "floordiv": "//",
    "mod": "%",
    "pow": "**",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "eq": "==",
    "ne": "!=",
    "and": "and",
    "or": "or",
    "shl": "<<",
    "shr": ">>",
}

COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
FLOAT_FUNCTIONS = (
    *("exp", "exp2", "expm1", "log", "log2", "log1p", "sqrt", "rsqrt", "tanh", "sin", "cos", "sigmoid", "softplus"),
    *("erf", "floor", "ceil", "round"),
)

_ROWS: list[tuple[str, int, Rule]] = [
    *((name, 2, _numeric) for name in ("add", "sub", "mul", "floordiv", "mod", "minimum", "maximum", "pow")),
    ("truediv", 2, _to("float")),
    # safe_div(a, 0) = 0: the quotient of a row that holds no mass.
    ("safe_div", 2, _to("float")),
    *((name, 1, _numeric) for name in ("neg", "abs", "sign", "relu")),
    *((name, 2, _to("bool")) for name in COMPARISONS),
    *((name, 2, _logical) for name in ("and", "or", "xor")),
    ("not", 1, _logical),
    *((name, 2, _integral) for name in ("shl", "shr", "bit_and", "bit_or", "bit_xor")),
    ("bit_not", 1, _integral),
    ("where", 3, _where),
    ("to_float", 1, _to("float")),
    ("to_int", 1, _to("int")),
    ("to_bool", 1, _to("bool")),
    *((name, 1, _to("float")) for name in FLOAT_FUNCTIONS),
    # A uniform number in [0, 1) that depends on (seed, b, h, q, kv) alone: the upper 24 bits, times 2**-24, of word
    # kv // 16 % 4 of Philox4x32-10 with the counter (kv // 64 * 16 + kv % 16, q, h, b) and the two halves of the seed.
    ("uniform", 1, lambda types: None if "float" in types else "float"),
    # The same with (b, h, q, kv) given, of which only kv varies over the keys: lowering alone writes it.
    ("uniform_at", 5, lambda types: None if "float" in types else "float"),
    # Only in the feature map of a view: softmax over the head dimension.
    ("dim_softmax", 1, _to("float")),
]

OPERATORS: dict[str, Operator] = {name: Operator(name, arity, rule, INFIX.get(name)) for name, arity, rule in _ROWS}
