"""The backward of a branch, derived: which cotangents a row needs, and what each pair of query and key adds to which.

A result element is finalize(acc, mass, ...), where acc = sum w phi(s) v and mass = sum psi(s). From the cotangent of
the result follow, row by row, those of acc, of vsum and of the mass; then everything that a pair contributes is the
derivative of
    w phi(s) dp + psi(s) dmass + sum_k term_k(s) dr[k] + keep(s) dbefore,        dp = (cotangent of acc) . v
by the dots and the indexed tensors. dr[k], the cotangent of what an earlier pass gave, is a sum over the keys of the
row; so every earlier pass has a pass of its own in the backward. The r of a "root" pass is defined by
sum_j term(s_j, r) = 1, which makes its coefficient dr = -(cotangent of r) / sum_j (derivative of term_j by r). The
anchor is a constant throughout: the shift law says that no result depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from attngen.codegen.derive.gradient import ONE, float_loads, gradient, mul
from attngen.codegen.derive.passes import last_declared
from attngen.codegen.plan import BranchPlan, KeySetPlan, Plan
from attngen.ir.expr import Const, Expr, Load, Op, Sym, const, op, substitute, sym, symbols
from attngen.ir.nodes import Affine

Flows = tuple[tuple[Load, Expr], ...]
"""Loads with the cotangent that reaches them."""


@dataclass(frozen=True, slots=True)
class PassGradient:
    """What a pair adds to the cotangent of r[k] (`share`), and to the slope of the sum of a root."""

    share: Expr
    slope: Expr | None


@dataclass(frozen=True, slots=True)
class PairGradient:
    """What one pair adds, over dot[i], dp and the numbers of the row.

    `score` is the score of the pair and `weight` the factor of v in acc. `dots` are the cotangents of the raw dots,
    `before` that of the sum of what was kept.
    """

    score: Expr
    weight: Expr
    dots: tuple[Expr, ...]
    loads: Flows
    passes: tuple[PassGradient, ...]
    keep: Expr | None
    before: Expr


@dataclass(frozen=True, slots=True)
class RowGradient:
    """Per result element: the cotangents of acc and vsum, its shares of dmass and of the loads. Per row: those of the
    log-sum-exp and of the sink (over dmass)."""

    acc: Expr
    vsum: Expr
    mass: Expr
    loads: Flows
    lse_mass: Expr
    lse_loads: Flows
    sink_loads: Flows


def score_of(keyset: KeySetPlan) -> Expr:
    """The score of a pair: alpha * core."""
    return keyset.core if keyset.alpha == ONE else op("mul", keyset.core, keyset.alpha)


@lru_cache(maxsize=256)
def pair_gradient(branch: BranchPlan, keyset: KeySetPlan, wanted: frozenset[str]) -> PairGradient:
    """Everything that a pair of a key set contributes."""
    last = branch.last
    score = score_of(keyset)

    def at(expr: Expr) -> Expr:
        return substitute(expr, {"s": score})

    weight = ONE if branch.weight is None else branch.weight
    phi = at(last.phi)
    dp, dmass = sym("dp"), sym("dmass")
    outputs = [(phi, mul(weight, dp))]
    if branch.weight is not None:
        outputs.append((branch.weight, mul(phi, dp)))
    if last.psi is not None:
        outputs.append((at(last.psi), dmass))
    keep = None if branch.scan is None else at(branch.scan.keep)
    passes: list[PassGradient] = []
    for k in reversed(range(len(branch.passes))):
        term = branch.passes[k].term
        if term is None:
            passes.insert(0, PassGradient(const(0.0), None))
            continue
        r = sym(f"r[{k}]")
        root = branch.passes[k].kind == "root"
        slope = gradient([(at(term), ONE)], [r])[0] if root else None
        passes.insert(0, PassGradient(gradient(outputs, [r])[0], slope))
        outputs.append((at(term), sym(f"dr[{k}]")))
    before = gradient([(phi, mul(weight, dp))], [sym("before")])[0]
    if keep is not None:
        outputs.append((keep, sym("dbefore")))
    dots = [sym(f"dot[{i}]") for i in range(len(keyset.dots))]
    loads = float_loads([expr for expr, _ in outputs], wanted)
    found = gradient(outputs, [*dots, *loads])
    return PairGradient(
        score=score,
        weight=mul(weight, phi),
        dots=found[: len(dots)],
        loads=tuple(zip(loads, found[len(dots) :], strict=True)),
        passes=tuple(passes),
        keep=keep,
        before=before,
    )


@lru_cache(maxsize=256)
def row_gradient(plan: Plan, index: int, wanted: frozenset[str]) -> RowGradient:
    """The cotangents of a row of branch `index`, from those of its result (dout) and its log-sum-exp (dlse)."""
    last = plan.branches[index].last
    result = with_coefficient(plan, index, last.finalize)
    outputs = [(result, sym("dout"))]
    loads = float_loads([result], wanted)
    acc, vsum, mass, *flows = gradient(outputs, [sym("acc"), sym("vsum"), sym("mass"), *loads])
    lse_mass: Expr = const(0.0)
    lse_flows: Flows = ()
    if last.lse is not None:
        lse_loads = float_loads([last.lse], wanted)
        lse_mass, *parts = gradient([(last.lse, sym("dlse"))], [sym("mass"), *lse_loads])
        lse_flows = tuple(zip(lse_loads, parts, strict=True))
    sink_flows: Flows = ()
    declared = last_declared(plan.branches[index].normalizer)
    if last.sink is not None and declared is not None and declared.psi is not None:
        at_sink = substitute(declared.psi, {"s": last.sink})
        sink_loads = float_loads([at_sink], wanted)
        sink_flows = tuple(zip(sink_loads, gradient([(at_sink, sym("dmass"))], sink_loads), strict=True))
    return RowGradient(acc, vsum, mass, tuple(zip(loads, flows, strict=True)), lse_mass, lse_flows, sink_flows)


def row_factor(cotangent: Expr) -> Expr | None:
    """f, where a cotangent of acc or vsum is f times that of the result and f is one number for a whole row; else
    None. Then the cotangent itself never has to be written anywhere."""
    found = _without_dout(cotangent)
    return None if found is None or symbols(found) & {"dout", "acc", "vsum", "dim"} else found


def _without_dout(expr: Expr) -> Expr | None:
    """expr / dout, where dout is one of its factors."""
    match expr:
        case Const(value=0.0):
            return expr
        case Sym(name="dout"):
            return ONE
        case Op(name="neg", args=(a,)):
            inner = _without_dout(a)
            return None if inner is None else op("neg", inner)
        case Op(name="mul", args=(a, b)):
            first = _without_dout(a)
            if first is not None:
                return mul(first, b)
            second = _without_dout(b)
            return None if second is None else mul(a, second)
        case Op(name="truediv" | "safe_div" as name, args=(a, b)):
            above = _without_dout(a)
            return None if above is None else op(name, above, b)
        case Op(name="where", args=(condition, a, b)):
            yes, no = _without_dout(a), _without_dout(b)
            return None if yes is None or no is None else op("where", condition, yes, no)
    return None


def with_coefficient(plan: Plan, index: int, finalize: Expr) -> Expr:
    """What a branch adds to the result: finalize times its coefficient."""
    combine = plan.spec.combine
    if not isinstance(combine, Affine) or combine.coefficients[index] == const(1.0):
        return finalize
    return op("mul", finalize, combine.coefficients[index])
