"""Which plans the CPU backend takes, and why not the others, in a sentence for the user."""

from __future__ import annotations

from attngen.codegen.backends.cpu.loads import CTYPES
from attngen.codegen.lower.lowered import lowered
from attngen.codegen.lower.lowered import refusal as lowering_refusal
from attngen.codegen.plan import BranchPlan, Plan
from attngen.ir.expr import loads, symbols
from attngen.ir.nodes import Grid, Paged, Project, Sequence

MOST_DOTS = 4


def refusal(plan: Plan) -> str | None:
    """None, or the reason."""
    reason = lowering_refusal(plan)
    if reason is not None:
        return reason
    plan = lowered(plan)
    if isinstance(plan.spec.space, Paged) and (reason := _pages(plan)) is not None:
        return reason
    if not isinstance(plan.spec.space, Sequence | Grid | Paged):
        return f"the index space {type(plan.spec.space).__name__} has no CPU kernel yet"
    if plan.spec.routers:
        return "routers have no CPU kernel yet"
    if isinstance(plan.spec.combine, Project):
        return "a projection of branches has no CPU kernel yet"
    if any(branch.decay is not None for branch in plan.spec.branches):
        return "a decay has no CPU kernel yet"
    for operand in plan.problem.operands:
        if operand.dtype not in CTYPES:
            return f"{operand.name}: elements of type {operand.dtype} cannot be read"
    return next((reason for branch in plan.branches if (reason := _branch(plan, branch))), None)


def _pages(plan: Plan) -> str | None:
    for branch in plan.branches:
        for i, keyset in enumerate(branch.keysets):
            paged = {view.tensor for view in (keyset.v, *(dot.k for dot in keyset.dots))} & {"k", "v"}
            if i and paged:
                return "keys in pages beside the main ones have no CPU kernel yet"
            if any(dot.q.tensor in ("k", "v") for dot in keyset.dots):
                return "queries that lie in pages have no CPU kernel yet"
    return None


def _branch(plan: Plan, branch: BranchPlan) -> str | None:
    if len({tuple((dot.width) for dot in keyset.dots) for keyset in branch.keysets}) != 1:
        return "key sets with dots of different widths have no CPU kernel yet"
    if len({keyset.alpha for keyset in branch.keysets}) != 1:
        return "key sets with different scales have no CPU kernel yet"
    if branch.needs_visible and len(branch.keysets) > 1:
        read = [*branch.row_expressions(), *(e for k in branch.keysets for e in (k.core, k.alpha)), branch.weight]
        if any("n_visible" in symbols(*load.indices) for load in loads(*read)):
            return "an index made of the number of visible keys of several key sets has no CPU kernel yet"
    for keyset in branch.keysets:
        if len(keyset.dots) > MOST_DOTS:
            return f"a score of {len(keyset.dots)} dots is more than the {MOST_DOTS} that a CPU kernel holds"
        for view in (keyset.v, *(v for dot in keyset.dots for v in (dot.q, dot.k))):
            if view.feature is not None:
                return f"the feature map on {view.tensor} has no CPU kernel yet"
            if plan.problem.operand(view.tensor).rank != 4:
                return f"{view.tensor} has rank {plan.problem.operand(view.tensor).rank}; keys and values have 4"
    return None
