"""Expressions as formulas of sympy, one for each case: which side of a `where`, which sign under an `abs`.

sympy is imported here and in `algebra` only, and only where structure decides nothing. What does not depend on the
variables becomes one real unknown. Literals become exact fractions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import sympy as sp

from attngen.ir.expr import Const, Expr, Op, Sym, const, op, symbols
from attngen.ir.signs import Signs
from attngen.ir.span_ops import OPPOSITE

MOST_CASES = 64
ZERO = const(0.0)


class Undecided(Exception):
    """The algebra says neither yes nor no."""


@dataclass(frozen=True, slots=True)
class Case:
    """The formula that holds where the conditions in `chosen` are what they are said to be."""

    chosen: Mapping[Expr, bool]
    formula: Any
    signs: Signs


@dataclass(slots=True)
class Unknowns:
    """The sympy symbols of variables, by name, and of what stands for itself; shared by all cases."""

    variables: dict[str, Any]
    others: dict[Expr, Any] = field(default_factory=dict)


class _Fork(Exception):
    def __init__(self, condition: Expr) -> None:
        self.condition = condition


def cases(expr: Expr, unknowns: Unknowns, signs: Signs) -> list[Case]:
    """Every case of the expression. Together they cover all values; one that cannot be may be among them."""
    found: list[Case] = []
    open_: list[tuple[dict[Expr, bool], Signs]] = [({}, signs)]
    while open_:
        chosen, known = open_.pop()
        try:
            found.append(Case(chosen, _Translation(unknowns, chosen, known).of(expr), known))
        except _Fork as fork:
            for holds in (True, False):
                narrowed = known.assume(fork.condition, holds)
                if narrowed is not None:
                    open_.append(({**chosen, fork.condition: holds}, narrowed))
        if len(found) + len(open_) > MOST_CASES:
            raise Undecided(f"more than {MOST_CASES} cases")
    return found


class _Translation:
    def __init__(self, unknowns: Unknowns, chosen: Mapping[Expr, bool], signs: Signs) -> None:
        self.unknowns, self.chosen, self.signs = unknowns, chosen, signs
        self.done: dict[int, tuple[Expr, Any]] = {}

    def of(self, expr: Expr) -> Any:
        if id(expr) not in self.done:
            self.done[id(expr)] = expr, self._of(expr)
        return self.done[id(expr)][1]

    def _of(self, expr: Expr) -> Any:
        match expr:
            case Const(value=value):
                return _number(value)
            case Sym(name=name) if name in self.unknowns.variables:
                return self.unknowns.variables[name]
            case _ if not self._moves(expr):
                return self._constant(expr)
            case Op(name="where", args=(condition, yes, no)):
                return self.of(yes if self.holds(condition) else no)
            case Op(name="relu", args=(a,)):
                return self.of(a) if self.at_least(a, ZERO) else sp.Integer(0)
            case Op(name="abs", args=(a,)):
                return self.of(a) if self.at_least(a, ZERO) else -self.of(a)
            case Op(name="sign", args=(a,)):
                if self.holds(op("gt", a, 0.0)):
                    return sp.Integer(1)
                return sp.Integer(-1 if self.holds(op("lt", a, 0.0)) else 0)
            case Op(name="maximum" | "minimum" as name, args=(a, b)):
                return self.of(a if self.at_least(a, b) == (name == "maximum") else b)
            case Op(name="to_float", args=(a,)) if a.type == "bool":
                return sp.Integer(1 if self.holds(a) else 0)
            case Op(name="safe_div", args=(a, b)):
                return sp.Integer(0) if self.holds(op("eq", b, 0.0)) else self.of(a) / self.of(b)
            case Op(name=name, args=args) if name in FORMULAS:
                return FORMULAS[name](*(self.of(a) for a in args))
        raise Undecided(f"no formula for {getattr(expr, 'name', expr)}")

    def _constant(self, expr: Expr) -> Any:
        """What does not depend on the variables: computed if it is made of literals, or else an unknown."""
        if isinstance(expr, Op) and expr.name in FORMULAS and not any(True for _ in _leaves(expr)):
            return FORMULAS[expr.name](*(self.of(a) for a in expr.args))
        if expr not in self.unknowns.others:
            span = Signs({}).of(expr)
            known = {"positive": True} if span.positive else {"nonnegative": True} if span.nonnegative else {}
            self.unknowns.others[expr] = sp.Dummy(f"c{len(self.unknowns.others)}", real=True, **known)
        return self.unknowns.others[expr]

    def at_least(self, a: Expr, b: Expr) -> bool:
        """Whether a is the larger one, or may be taken for it because both are equal."""
        if self.known(op("ge", a, b)) is not True and self.known(op("le", a, b)) is True:
            return False
        return self.holds(op("ge", a, b))

    def holds(self, condition: Expr) -> bool:
        """Whether the condition holds in this case; a new case where nobody knows."""
        known = self.known(condition)
        if known is not None:
            return known
        match condition:
            case Op(name="not", args=(a,)):
                return not self.holds(a)
            case Op(name="and", args=(a, b)):
                return self.holds(a) and self.holds(b)
            case Op(name="or", args=(a, b)):
                return self.holds(a) or self.holds(b)
        raise _Fork(condition)

    def known(self, condition: Expr) -> bool | None:
        """Whether the condition holds, by choice, by its spans, or by what sympy knows of the difference."""
        if condition in self.chosen:
            return self.chosen[condition]
        decided = self.signs.decided(condition)
        match condition:
            case Op(name=name, args=(a, b)) if decided is None and name in OPPOSITE and self._moves(condition):
                difference = self.of(a) - self.of(b)
                known = {
                    "gt": difference.is_positive,
                    "ge": difference.is_nonnegative,
                    "lt": difference.is_negative,
                    "le": difference.is_nonpositive,
                    "eq": difference.is_zero,
                    "ne": None if difference.is_zero is None else not difference.is_zero,
                }[name]
                return None if known is None else bool(known)
        return decided

    def _moves(self, expr: Expr) -> bool:
        return bool(symbols(expr) & self.unknowns.variables.keys())


def _leaves(expr: Expr) -> Iterator[Expr]:
    stack: list[Expr] = [expr]
    while stack:
        node = stack.pop()
        if not isinstance(node, Const | Op):
            yield node
        stack.extend(node.children)


def _number(value: float) -> Any:
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise Undecided("an infinite literal")
    return sp.Integer(value) if isinstance(value, int) else sp.Rational(value)


def _tanh(x: Any) -> Any:
    return (sp.exp(2 * x) - 1) / (sp.exp(2 * x) + 1)


FORMULAS: Mapping[str, Any] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "truediv": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "neg": lambda a: -a,
    "exp": sp.exp,
    "exp2": lambda a: sp.exp(a * sp.log(2)),
    "expm1": lambda a: sp.exp(a) - 1,
    "log": sp.log,
    "log2": lambda a: sp.log(a) / sp.log(2),
    "log1p": lambda a: sp.log(1 + a),
    "sqrt": sp.sqrt,
    "rsqrt": lambda a: 1 / sp.sqrt(a),
    "tanh": _tanh,
    "sigmoid": lambda a: 1 / (1 + sp.exp(-a)),
    "softplus": lambda a: sp.log(1 + sp.exp(a)),
    "sin": sp.sin,
    "cos": sp.cos,
    "erf": sp.erf,
    "to_float": lambda a: a,
}
"""Exponentials of tanh and its like are written out: then identities between them are ones of rational functions."""
