"""What no generated kernel does yet, whatever its language, in a sentence for the user."""

from __future__ import annotations

from collections.abc import Container

from attngen.codegen.lower.lowered import lowered
from attngen.codegen.lower.lowered import refusal as lowering_refusal
from attngen.codegen.plan import BranchPlan, Plan
from attngen.ir.expr import loads, symbols
from attngen.ir.nodes import Grid, Paged, Project, Sequence


def common_refusal(plan: Plan, kernel: str, elements: Container[str]) -> str | None:
    """None, or the reason. `kernel`: what a kernel of the backend is called; `elements`: the types that it reads."""
    reason = lowering_refusal(plan)
    if reason is not None:
        return reason
    plan = lowered(plan)
    if isinstance(plan.spec.space, Paged) and (reason := _pages(plan, kernel)) is not None:
        return reason
    if not isinstance(plan.spec.space, Sequence | Grid | Paged):
        return f"the index space {type(plan.spec.space).__name__} has no {kernel} yet"
    if plan.spec.routers:
        return f"routers have no {kernel} yet"
    if isinstance(plan.spec.combine, Project):
        return f"a projection of branches has no {kernel} yet"
    if any(branch.decay is not None for branch in plan.spec.branches):
        return f"a decay has no {kernel} yet"
    for operand in plan.problem.operands:
        if operand.dtype not in elements:
            return f"{operand.name}: elements of type {operand.dtype} cannot be read"
    return next((reason for branch in plan.branches if (reason := _branch(plan, branch, kernel))), None)


def _pages(plan: Plan, kernel: str) -> str | None:
    for branch in plan.branches:
        for i, keyset in enumerate(branch.keysets):
            paged = {view.tensor for view in (keyset.v, *(dot.k for dot in keyset.dots))} & {"k", "v"}
            if i and paged:
                return f"keys in pages beside the main ones have no {kernel} yet"
            if any(dot.q.tensor in ("k", "v") for dot in keyset.dots):
                return f"queries that lie in pages have no {kernel} yet"
    return None


def _branch(plan: Plan, branch: BranchPlan, kernel: str) -> str | None:
    if len({tuple((dot.width) for dot in keyset.dots) for keyset in branch.keysets}) != 1:
        return f"key sets with dots of different widths have no {kernel} yet"
    if len({keyset.alpha for keyset in branch.keysets}) != 1:
        return f"key sets with different scales have no {kernel} yet"
    if branch.needs_visible and len(branch.keysets) > 1:
        read = [*branch.row_expressions(), *(e for k in branch.keysets for e in (k.core, k.alpha)), branch.weight]
        if any("n_visible" in symbols(*load.indices) for load in loads(*read)):
            return f"an index made of the number of visible keys of several key sets has no {kernel} yet"
    for keyset in branch.keysets:
        for view in (keyset.v, *(v for dot in keyset.dots for v in (dot.q, dot.k))):
            if view.feature is not None:
                return f"the feature map on {view.tensor} has no {kernel} yet"
            if plan.problem.operand(view.tensor).rank != 4:
                return f"{view.tensor} has rank {plan.problem.operand(view.tensor).rank}; keys and values have 4"
    return None
