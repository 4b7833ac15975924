"""The plan of packed sequences as one sequence, and what a launch of it needs beside the tensors of a call."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attngen.codegen.backend import Call
from attngen.codegen.lower import segments
from attngen.codegen.lower.coordinates import names_for
from attngen.codegen.lower.made import Back
from attngen.codegen.lower.offsets import PackedInputs
from attngen.codegen.lower.ranges import EVERYTHING, packed_ranges
from attngen.codegen.lower.units import Division
from attngen.codegen.plan import KeySetPlan, Plan, make_plan
from attngen.codegen.problem import Operand
from attngen.errors import UnsupportedError
from attngen.ir.nodes import Segments
from attngen.ir.walk import views

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def packed_plan(plan: Plan) -> Plan:
    """The plan over one sequence."""
    spec = segments.lower(plan.spec)
    added = names_for(plan.spec).inputs()
    operands = (*plan.problem.operands, *(Operand(i.name, "int32", 1, 0) for i in added))
    found = make_plan(spec, replace(plan.problem, operands=operands))
    branches = tuple(
        replace(
            branch,
            keysets=tuple(
                _keyset(plan, keyset, own, segments.keys_are_packed(plan.spec, given))
                for keyset, own, given in zip(branch.keysets, old.keysets, before.all_keysets(), strict=True)
            ),
        )
        for branch, old, before in zip(found.branches, plan.branches, plan.spec.branches, strict=True)
    )
    return replace(found, branches=branches)


def _keyset(plan: Plan, keyset: KeySetPlan, written: KeySetPlan, packed: bool) -> KeySetPlan:
    if not keyset.masked:
        return keyset
    if written.ranges is not None:
        return replace(keyset, ranges=packed_ranges(written.ranges, plan.spec, packed))
    return replace(keyset, ranges=None, within=packed_ranges(EVERYTHING, plan.spec, packed))


class PackedCall:
    """Calls of one set of shapes over packed sequences."""

    def __init__(self, plan: Plan, call: Call, division: Division | None) -> None:
        assert isinstance(plan.spec.space, Segments)
        self._inputs = PackedInputs(plan.spec.space, [o.name for o in plan.problem.operands[3:]], call, division)
        self.call = replace(call, operands=(*call.operands, *self._inputs.placeholders()))

    def made(self, qkv: Sequence[Tensor], inputs: Sequence[Tensor], scalars: Sequence[float]) -> tuple[Tensor, ...]:
        """The added inputs: where each query token is."""
        return tuple(self._inputs.made(inputs))

    def differentiated(
        self, qkv: Sequence[Tensor], inputs: Sequence[Tensor], scalars: Sequence[float]
    ) -> tuple[tuple[Tensor, ...], Back]:
        """The same, and the gradients of the tensors of a call: what is added has none."""
        return self.made(qkv, inputs, scalars), lambda found: found[: 3 + len(inputs)]


def check_batches(plan: Plan, call: Call) -> None:
    """Raises `UnsupportedError` for keys of one sequence that lie in a batch of their own."""
    viewed = {view.tensor for view in views(plan.spec)}
    for operand, tensor in zip(plan.problem.operands, call.operands, strict=True):
        if operand.name in viewed and tensor.shape[0] > 1:
            raise UnsupportedError(
                f"{operand.name}: got batch {tensor.shape[0]}; keys and values of each packed sequence lie side by "
                "side in kernels, with batch 1; use backend='reference'"
            )
