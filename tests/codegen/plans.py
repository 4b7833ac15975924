"""Plans of small calls, without tensors."""

from __future__ import annotations

from typing import Any, cast

import attngen
from attngen.codegen.plan import Plan, make_plan
from attngen.codegen.problem import Dtype, Operand, Problem

TORCH = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp64": "float64"}


def problem_of(
    spec: attngen.Spec, dtype: str = "fp32", d: int = 64, dv: int = 64, lse: bool = False, **inputs: tuple[str, int]
) -> Problem:
    """The compile-time facts; `inputs` are (element type, width of the last axis) by name, float32 and 8 by default."""
    qkv = [Operand(name, TORCH[dtype], 4, width) for name, width in (("q", d), ("k", d), ("v", dv))]
    given = []
    for declared in spec.ir.inputs:
        element, width = inputs.get(declared.name, ("float32", 8))
        if declared.axes:
            given.append(Operand(declared.name, element, len(declared.axes), width))
    return Problem(cast(Dtype, dtype), (*qkv, *given), lse)


def plan_of(spec: attngen.Spec, **problem: Any) -> Plan:
    """The plan of a spec."""
    return make_plan(spec.ir, problem_of(spec, **problem))
