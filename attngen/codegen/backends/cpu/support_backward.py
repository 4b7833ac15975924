"""Which plans have no CPU backward, and why, in a sentence for the user."""

from __future__ import annotations

from attngen.codegen.plan import Plan
from attngen.codegen.targets import MOST_AXES


def backward_refusal(plan: Plan) -> str | None:
    """None, or the reason."""
    for item in plan.spec.inputs:
        if len(item.axes) > MOST_AXES:
            return f"{item.name}: a gradient has at most {MOST_AXES} dimensions"
    if any(one.sink is not None for branch in plan.branches for one in branch.passes):
        return "a sink in an earlier pass of a chain has no CPU backward yet"
    return None
