"""Which plans the CPU backend takes, and why not the others, in a sentence for the user."""

from __future__ import annotations

from attngen.codegen.backends.cpu.loads import CTYPES
from attngen.codegen.calls.support import common_refusal
from attngen.codegen.plan import Plan

MOST_DOTS = 4


def refusal(plan: Plan) -> str | None:
    """None, or the reason."""
    reason = common_refusal(plan, "CPU kernel", CTYPES)
    if reason is not None:
        return reason
    for keyset in (keyset for branch in plan.branches for keyset in branch.keysets):
        if len(keyset.dots) > MOST_DOTS:
            return f"a score of {len(keyset.dots)} dots is more than the {MOST_DOTS} that a CPU kernel holds"
    return None
