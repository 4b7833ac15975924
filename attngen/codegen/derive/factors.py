"""Factors of many pairs that are one number: x * a / b is x * (a / b), and sums of x * a are multiplied at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from attngen.codegen.analysis.frame import KEYS, ROWS, depends_on
from attngen.codegen.derive.gradient import ONE, mul
from attngen.codegen.derive.hoist import DOTS
from attngen.codegen.plan import BranchPlan, Plan
from attngen.ir.expr import Expr, Load, Op, Sym, op, postorder, rebuild

LARGEST = 3.4028234e38


def gathered(score: Expr) -> Expr:
    """The same score, up to a rounding. The quotient stays finite: zero times infinity would be no number."""

    def change(node: Expr) -> Expr | None:
        match node:
            case Op(name="truediv", args=(Op(name="mul", args=(x, a)), b)) if x.type == "float" and _uniform(a, b):
                return op("mul", x, op("maximum", op("minimum", op("truediv", a, b), LARGEST), -LARGEST))
        return None

    return rebuild(score, change)


def with_gathered_factors(plan: Plan) -> Plan:
    """The plan with such scores."""
    return replace(plan, branches=tuple(_branch(branch) for branch in plan.branches))


def _branch(branch: BranchPlan) -> BranchPlan:
    return replace(branch, keysets=tuple(replace(k, core=gathered(k.core)) for k in branch.keysets))


def common_factor(exprs: Sequence[Expr]) -> tuple[Expr, tuple[Expr, ...]]:
    """A factor of all of them that is one number for the whole call, and what is left of each."""
    found = [_split(e) for e in exprs]
    factors = {factor for factor, _ in found}
    return (factors.pop(), tuple(rest for _, rest in found)) if len(factors) == 1 else (ONE, tuple(exprs))


def _split(e: Expr) -> tuple[Expr, Expr]:
    if not any(isinstance(n, Sym) or (isinstance(n, Load) and n.indices) or _is_random(n) for n in postorder(e)):
        return e, ONE
    match e:
        case Op(name="mul", args=(a, b)):
            (one, first), (other, second) = _split(a), _split(b)
            return mul(one, other), mul(first, second)
    return ONE, e


def _is_random(node: Expr) -> bool:
    return isinstance(node, Op) and node.name == "uniform"


def _uniform(*exprs: Expr) -> bool:
    return not any(depends_on(e, ROWS | KEYS | DOTS) for e in exprs)
