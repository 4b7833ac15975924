"""Which plans the Triton backend takes, and why not the others, in a sentence for the user."""

from __future__ import annotations

from importlib.util import find_spec

from attngen.codegen.backends.triton.abi import ELEMENT
from attngen.codegen.backends.triton.module import interpreted
from attngen.codegen.lower.lowered import lowered
from attngen.codegen.lower.lowered import refusal as lowering_refusal
from attngen.codegen.plan import BranchPlan, Plan
from attngen.ir.nodes import Grid, Paged, Project, Sequence

WIDEST = 256
"""Channels of a tile that registers and shared memory hold."""


def refusal(plan: Plan, device: str) -> str | None:
    """None, or the reason."""
    if find_spec("triton") is None:
        return "Triton is not installed; pip install triton"
    if device == "cpu" and not interpreted():
        return (
            "tensors on the CPU need Triton's interpreter; set TRITON_INTERPRET=1 before Triton is imported, or use "
            "the cpu backend"
        )
    reason = lowering_refusal(plan)
    if reason is not None:
        return reason
    plan = lowered(plan)
    if plan.problem.dtype == "fp64":
        return "float64 has no Triton kernel; use float32 or backend='reference'"
    if not isinstance(plan.spec.space, Sequence | Grid | Paged):
        return f"the index space {type(plan.spec.space).__name__} has no Triton kernel yet"
    if plan.spec.routers:
        return "routers have no Triton kernel yet"
    if isinstance(plan.spec.combine, Project):
        return "a projection of branches has no Triton kernel yet"
    if any(branch.decay is not None for branch in plan.spec.branches):
        return "a decay has no Triton kernel yet"
    for operand in plan.problem.operands:
        if operand.dtype not in ELEMENT:
            return f"{operand.name}: elements of type {operand.dtype} cannot be read"
    return next((reason for branch in plan.branches if (reason := _branch(plan, branch))), None)


def _branch(plan: Plan, branch: BranchPlan) -> str | None:
    if len({tuple((dot.width) for dot in keyset.dots) for keyset in branch.keysets}) != 1:
        return "key sets with dots of different widths have no Triton kernel yet"
    if len({keyset.alpha for keyset in branch.keysets}) != 1:
        return "key sets with different scales have no Triton kernel yet"
    for keyset in branch.keysets:
        for width in (branch.width, *(dot.width for dot in keyset.dots)):
            if width > WIDEST:
                return f"vectors of {width} channels are wider than the {WIDEST} that a Triton kernel holds"
        for view in (keyset.v, *(v for dot in keyset.dots for v in (dot.q, dot.k))):
            if view.feature is not None:
                return f"the feature map on {view.tensor} has no Triton kernel yet"
            if plan.problem.operand(view.tensor).rank != 4:
                return f"{view.tensor} has rank {plan.problem.operand(view.tensor).rank}; keys and values have 4"
    return None
