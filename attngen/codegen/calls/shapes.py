"""Sizes and strides of the tensors of a call, in the order of the argument block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.codegen.backend import Call
from attngen.codegen.calls.arguments import Arguments
from attngen.codegen.plan import Plan
from attngen.ir.walk import views

if TYPE_CHECKING:
    from torch import Tensor

TURNED = (0, 2, 1, 3)


def axes_of(call: Call) -> tuple[int, ...]:
    """Where batch, head, token and channel are in what views read, and in the result."""
    return TURNED if call.layout == "bnhd" else (0, 1, 2, 3)


def view_strides(tensor: Tensor, call: Call) -> list[int]:
    """Strides of batch, head, token, channel; one batch serves all."""
    axes = axes_of(call)
    strides = [tensor.stride(a) for a in axes]
    if tensor.shape[0] == 1:
        strides[0] = 0
    return strides


def tensor_fields(plan: Plan, arguments: Arguments, call: Call) -> list[int]:
    """Sizes and strides of every operand."""
    viewed = {view.tensor for view in views(plan.spec)}
    fields: list[int] = []
    for (name, _), tensor in zip(arguments.tensors, call.operands, strict=True):
        if name in viewed:
            fields += [tensor.shape[a] for a in axes_of(call)]
            fields += view_strides(tensor, call)
        else:
            fields += [*(tensor.shape or [1]), *(tensor.stride() or [0])]
    return fields
