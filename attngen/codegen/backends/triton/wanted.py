"""Which gradients of inputs the backwards of a bundle compute: no call can ask for a kernel of its own there.

Gradients of q, k, v and whatever else views read come from every backward. Those of indexed tensors cost time, so there
are two: one without any of them, and one with all.
"""

from __future__ import annotations

from collections.abc import Collection

from attngen.codegen.backends.triton.flows import flows_of
from attngen.codegen.lower.lowered import lowered
from attngen.codegen.plan import Plan

FLOATS = ("float64", "float32", "bfloat16", "float16")


def differentiable(plan: Plan) -> frozenset[str]:
    """The inputs of floating point that an expression carries gradients to."""
    named = frozenset(operand.name for operand in plan.problem.operands[3:] if operand.dtype in FLOATS)
    return frozenset(flow.load.tensor for flow in flows_of(lowered(plan), named))


def wanted_sets(plan: Plan) -> tuple[frozenset[str], ...]:
    """What is built, the smallest set first."""
    every = differentiable(plan)
    return (frozenset(), every) if every else (frozenset(),)


def smallest(sets: Collection[frozenset[str]], wanted: frozenset[str]) -> frozenset[str]:
    """The smallest of the sets with everything that is wanted; to what is in none of them, no gradient flows."""
    flowing = wanted & frozenset().union(*sets)
    return min((each for each in sets if flowing <= each), key=len)
