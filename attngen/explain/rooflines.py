"""How fast GPUs could be at best: visible pairs alone, every operand moved once, all units at work at the same time."""

from __future__ import annotations

from attngen.codegen.devices import DEVICES, predict
from attngen.codegen.plan import BranchPlan, KeySetPlan
from attngen.explain.explanation import KeySetFacts, Roofline
from attngen.explain.facts import Setting
from attngen.explain.work import ELEMENT, moved
from attngen.ir.expr import Expr, Load, Op, postorder, symbols

EXPONENTIALS = {"exp": 1, "exp2": 1, "expm1": 1, "sigmoid": 2, "softplus": 1, "tanh": 2, "pow": 2, "erf": 1}
EXPONENTIALS |= dict.fromkeys(("log", "log2", "log1p", "sqrt", "rsqrt", "sin", "cos", "truediv", "safe_div"), 1)
"""Operators that the special function unit computes, and how often."""
ONLINE = 4.0
"""What a weight costs beside its exponential: the maximum, a multiply-add, its bound, the sum."""
VARYING = frozenset({"kv", "kv[0]", "kv[1]", "kv[2]", "s", "m", "before", *(f"dot[{i}]" for i in range(8))})


def rooflines(setting: Setting, facts: tuple[KeySetFacts, ...]) -> tuple[Roofline, ...]:
    """One for each device of the table; none for float64, which GPUs have no tiles for."""
    element = ELEMENT[setting.plan.problem.dtype]
    if element > 4:
        return ()
    keysets = [(branch, keyset) for branch in setting.plan.branches for keyset in branch.keysets]
    found = []
    for device in DEVICES:
        total: dict[str, float] = {}
        for (branch, keyset), fact in zip(keysets, facts, strict=True):
            exps, fmas = pair_costs(branch, keyset)
            # Earlier passes compute the scores again.
            scores = 2 if branch.passes else 1
            parts = predict(
                device,
                pairs=sum(fact.pairs) / 2,
                d=scores * sum(dot.width for dot in keyset.dots),
                dv=branch.width,
                moved=moved(setting) / len(keysets),
                element_bytes=element,
                exps=exps,
                fmas=fmas,
            ).parts
            for unit, seconds in parts.items():
                total[unit] = total.get(unit, 0.0) + seconds
        bound = max(total, key=lambda unit: total[unit])
        found.append(Roofline(device.name, total[bound], bound))
    return tuple(found)


def pair_costs(branch: BranchPlan, keyset: KeySetPlan) -> tuple[float, float]:
    """Exponentials and multiply-adds of a pair, beside its products; masks cost nothing on full tiles."""
    if branch.exponential:
        counted: list[Expr] = [keyset.core]
        exps, fmas = 1.0, ONLINE
    else:
        counted = [keyset.core, branch.last.phi]
        exps, fmas = 0.0, 1.0
    if branch.weight is not None:
        counted.append(branch.weight)
    seen: set[Expr] = set()
    for expr in counted:
        for node in postorder(expr):
            if node in seen or isinstance(node, Load) or not symbols(node) & VARYING:
                continue
            seen.add(node)
            if isinstance(node, Op):
                special = EXPONENTIALS.get(node.name, 0)
                exps, fmas = exps + special, fmas + (not special)
    return exps, fmas
