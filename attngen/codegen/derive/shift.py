"""The shift law by structure: how an expression changes when the anchor moves by t.

A running anchor is only legal where phi(s, m + t) = exp(-k t) * phi(s, m) for one k and every s, t: then a running sum
taken at anchor m is brought to anchor m' by the factor exp(k (m - m')). Every rule below is an equation between the two
sides, so what is found is proven. It costs one walk and needs no algebra system; `symbolic` tries what is left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from attngen.ir.expr import Const, Expr, Op, Sym, postorder

TINY = 1e-12
"""Rates are computed in floats from the literals of the user; closer than this they are the same."""


@dataclass(frozen=True, slots=True)
class Motion:
    """What the shift does to a value: it multiplies it by exp(-factor t), it adds step * t, or it is not known (None).

    A value that stays where it is has factor 0 and step 0; a condition that stays so, too. `value` is that of a
    constant. Zero is multiplied by anything.
    """

    factor: float | None = None
    step: float | None = None
    value: float | None = None

    @property
    def still(self) -> bool:
        """Whether the shift leaves it alone."""
        return self.factor == 0 or self.step == 0


STILL = Motion(0.0, 0.0)
UNKNOWN = Motion()
ANCHOR: Mapping[str, Motion] = {"m": Motion(step=1.0)}


def state(k: float) -> Mapping[str, Motion]:
    """What the shift does to the state of a row: the sums are those of summands with the rate k."""
    return {**ANCHOR, "acc": Motion(factor=k), "mass": Motion(factor=k)}


def degree(expr: Expr) -> float | None:
    """The k of the shift law for m, or None where the structure does not show one. 0 is "does not depend on m"."""
    return motion(expr).factor


def is_invariant(expr: Expr, k: float) -> bool:
    """Whether structure shows that an expression in acc, mass and m stays when the anchor of the sums moves."""
    return motion(expr, state(k)).still


def motion(expr: Expr, moves: Mapping[str, Motion] = ANCHOR) -> Motion:
    """What the shift does to an expression, given what it does to symbols."""
    found: dict[int, Motion] = {}
    for node in postorder(expr):
        match node:
            case Const(value=value):
                found[id(node)] = Motion(0.0, 0.0, float(value))
            case Sym(name=name):
                found[id(node)] = moves.get(name, STILL)
            case Op():
                made = _operator(node, [found[id(a)] for a in node.args])
                found[id(node)] = Motion(0.0, 0.0, made.value) if made.still else made
            case _:  # a load moves with its indices
                found[id(node)] = STILL if all(found[id(c)].still for c in node.children) else UNKNOWN
    return found[id(expr)]


def _operator(node: Op, args: list[Motion]) -> Motion:
    """First what follows for products and sums, then for functions of one argument."""
    if all(a.still for a in args):
        return Motion(0.0, 0.0, _folded(node.name, [a.value for a in args]))
    match node.name, args:
        case "mul", [a, b]:
            if 0.0 in (a.value, b.value):
                return Motion(0.0, 0.0, 0.0)
            return Motion(_sum(a.factor, b.factor), _scaled(a, b) if a.value is None else _scaled(b, a))
        case (("truediv" | "safe_div"), [a, b]):
            inverse = None if b.value in (None, 0.0) else 1 / b.value
            return Motion(_sum(a.factor, _negated(b.factor)), _scaled(a, Motion(value=inverse)))
        case (("add" | "sub"), [a, b]):
            return Motion(_common(a, b), _sum(a.step, b.step if node.name == "add" else _negated(b.step)))
        case (("maximum" | "minimum"), [a, b]):
            return Motion(_common(a, b), _same(a.step, b.step))
        case "where", [condition, a, b]:
            return Motion(_common(a, b), _same(a.step, b.step)) if condition.still else UNKNOWN
        case "pow", [a, b]:
            if b.value is not None:
                return Motion(_times(a.factor, b.value))
            grows = a.value is not None and a.value > 0
            return Motion(_times(b.step, -math.log(a.value))) if grows and a.value else UNKNOWN
        case (("lt" | "le" | "gt" | "ge" | "eq" | "ne"), [a, b]):
            # Both sides times one positive factor, or both plus one number: nothing changes.
            return STILL if _common(a, b) is not None or _same(a.step, b.step) is not None else UNKNOWN
        case name, [a]:
            return _function(name, a)
    return UNKNOWN


def _function(name: str, a: Motion) -> Motion:
    match name:
        case "exp" | "exp2":
            return Motion(_times(a.step, -1.0 if name == "exp" else -math.log(2)))
        case "log" | "log2":
            return Motion(step=_times(a.factor, -1.0 if name == "log" else -1 / math.log(2)))
        case "neg":
            return Motion(a.factor, _negated(a.step))
        case "relu" | "abs":
            return Motion(a.factor)
        case "sqrt" | "rsqrt":
            return Motion(_times(a.factor, 0.5 if name == "sqrt" else -0.5))
        case "to_float":
            return a
        case "sign" | "to_bool":
            return STILL if a.factor is not None else UNKNOWN
    return UNKNOWN


def _common(a: Motion, b: Motion) -> float | None:
    """The factor of both; zero has every one."""
    if a.value == 0:
        return b.factor
    return a.factor if b.value == 0 else _same(a.factor, b.factor)


def _same(a: float | None, b: float | None) -> float | None:
    return a if a is not None and b is not None and same_rate(a, b) else None


def same_rate(a: float, b: float) -> bool:
    """Whether two rates are one, up to the rounding of the literals that they come from."""
    return math.isclose(a, b, rel_tol=TINY, abs_tol=TINY)


def _scaled(a: Motion, by: Motion) -> float | None:
    return _times(a.step, by.value)


def _negated(a: float | None) -> float | None:
    return _times(a, -1.0)


def _times(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else _clean(a * b)


def _sum(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else _clean(a + b)


def _clean(rate: float) -> float | None:
    return None if not math.isfinite(rate) else 0.0 if abs(rate) < TINY else rate


def _folded(name: str, values: list[float | None]) -> float | None:
    """The value of an operator on constants, for those in which rates are written."""
    known = [v for v in values if v is not None]
    if len(known) < len(values):
        return None
    try:
        match name, known:
            case "add", [a, b]:
                return a + b
            case "sub", [a, b]:
                return a - b
            case "mul", [a, b]:
                return a * b
            case "truediv", [a, b]:
                return a / b
            case "pow", [a, b]:
                return float(a**b) if a > 0 else None
            case "neg", [a]:
                return -a
            case "to_float", [a]:
                return a
            case "log", [a]:
                return math.log(a)
            case "sqrt", [a]:
                return math.sqrt(a)
            case "rsqrt", [a]:
                return 1 / math.sqrt(a)
            case "exp", [a]:
                return math.exp(a)
    except (ArithmeticError, ValueError):
        return None
    return None
