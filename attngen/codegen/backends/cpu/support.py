"""Which plans the CPU backend takes, and why not the others, in a sentence for the user."""

from __future__ import annotations

from attngen.codegen.backends.cpu.loads import CTYPES
from attngen.codegen.plan import BranchPlan, Plan
from attngen.ir.expr import symbols
from attngen.ir.nodes import Grid, Project, Sequence
from attngen.ir.normalizer import Streaming

MOST_DOTS = 4


def refusal(plan: Plan) -> str | None:
    """None, or the reason."""
    if not isinstance(plan.spec.space, Sequence | Grid):
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


def _branch(plan: Plan, branch: BranchPlan) -> str | None:
    if not isinstance(branch.normalizer, Streaming):
        kind = type(branch.normalizer).__name__
        return f"the normalizer {branch.normalizer.name!r} is {kind}, and only Streaming ones have a CPU kernel yet"
    if len({tuple((dot.width) for dot in keyset.dots) for keyset in branch.keysets}) != 1:
        return "key sets with dots of different widths have no CPU kernel yet"
    if len({keyset.alpha for keyset in branch.keysets}) != 1:
        return "key sets with different scales have no CPU kernel yet"
    n = branch.normalizer
    if "n_visible" in symbols(n.phi, n.psi, n.anchor, n.sink, n.finalize, n.lse):
        return "a normalizer that reads the number of visible keys has no CPU kernel yet"
    for keyset in branch.keysets:
        if len(keyset.dots) > MOST_DOTS:
            return f"a score of {len(keyset.dots)} dots is more than the {MOST_DOTS} that a CPU kernel holds"
        if "n_visible" in symbols(keyset.core, keyset.alpha, branch.weight):
            return "the number of visible keys has no closed form for this mask, or there are several key sets"
        for view in (keyset.v, *(v for dot in keyset.dots for v in (dot.q, dot.k))):
            if view.feature is not None:
                return f"the feature map on {view.tensor} has no CPU kernel yet"
            if plan.problem.operand(view.tensor).rank != 4:
                return f"{view.tensor} has rank {plan.problem.operand(view.tensor).rank}; keys and values have 4"
    return None
