"""Which plans the Triton backend takes, and why not the others, in a sentence for the user."""

from __future__ import annotations

from importlib.util import find_spec

from attngen.codegen.backends.triton.abi import ELEMENT
from attngen.codegen.backends.triton.module import interpreted
from attngen.codegen.calls.support import common_refusal
from attngen.codegen.lower.lowered import lowered
from attngen.codegen.plan import Plan

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
    reason = common_refusal(plan, "Triton kernel", ELEMENT)
    if reason is not None:
        return reason
    if plan.problem.dtype == "fp64":
        return "float64 has no Triton kernel; use float32 or backend='reference'"
    for branch in plan.branches:
        for width in (branch.width, *(dot.width for keyset in branch.keysets for dot in keyset.dots)):
            if width > WIDEST:
                return f"vectors of {width} channels are wider than the {WIDEST} that a Triton kernel holds"
    return None


def backward_refusal(plan: Plan) -> str | None:
    """None, or the reason why the gradients have no kernel."""
    for branch in lowered(plan).branches:
        if any(one.sink is not None for one in branch.passes):
            return "a sink in an earlier pass of a chain has no Triton backward yet"
    return None
