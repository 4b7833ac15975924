"""What a pair of a query and a key costs: products, exponentials, multiply-adds."""

from __future__ import annotations

from attngen.codegen.plan import BranchPlan, KeySetPlan
from attngen.ir.expr import Expr, Load, Op, postorder, symbols

ELEMENT = {"fp64": 8, "fp32": 4, "bf16": 2, "fp16": 2}
"""Bytes of a number."""
EXPONENTIALS = {"exp": 1, "exp2": 1, "expm1": 1, "sigmoid": 2, "softplus": 1, "tanh": 2, "pow": 2, "erf": 1}
EXPONENTIALS |= dict.fromkeys(("log", "log2", "log1p", "sqrt", "rsqrt", "sin", "cos", "truediv", "safe_div"), 1)
"""Operators that the special function unit computes, and how often."""
ONLINE = 4.0
"""What a weight costs beside its exponential: the maximum, a multiply-add, its bound, the sum."""
VARYING = frozenset({"kv", "kv[0]", "kv[1]", "kv[2]", "s", "m", "before", *(f"dot[{i}]" for i in range(8))})


def pair_flops(branch: BranchPlan, keyset: KeySetPlan) -> int:
    """Multiplications and additions of the products for one query and one key: scores once more for earlier passes."""
    scores = 2 if branch.passes else 1
    return 2 * (scores * sum(dot.width for dot in keyset.dots) + branch.width)


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
