"""What a backend without a loop for a space runs instead: the plan of the lowered spec, with inputs added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from attngen.codegen.backend import BackwardLaunch, Call, Launch
from attngen.codegen.lower import segments
from attngen.codegen.lower.coordinates import names_for
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


def refusal(plan: Plan) -> str | None:
    """None, or the reason why the plan cannot be lowered."""
    return segments.refusal(plan.spec) if isinstance(plan.spec.space, Segments) else None


def lowered(plan: Plan) -> Plan:
    """The plan that a backend runs: of the lowered spec, or the plan itself, where nothing is or can be lowered."""
    return plan if refusal(plan) is not None else counted(plan)


def counted(plan: Plan) -> Plan:
    """The plan whose masks say which keys are visible, whatever refuses to run it."""
    if not isinstance(plan.spec.space, Segments):
        return plan
    # Plans that are equal may come from different lines of the user's: messages should name the right ones.
    return replace(_packed_plan(plan), written=plan)


@lru_cache(maxsize=256)
def _packed_plan(plan: Plan) -> Plan:
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
    return replace(found, branches=branches, written=plan)


def _keyset(plan: Plan, keyset: KeySetPlan, written: KeySetPlan, packed: bool) -> KeySetPlan:
    if not keyset.masked:
        return keyset
    if written.ranges is not None:
        return replace(keyset, ranges=packed_ranges(written.ranges, plan.spec, packed))
    return replace(keyset, ranges=None, within=packed_ranges(EVERYTHING, plan.spec, packed))


def lowered_call(
    plan: Plan, call: Call, division: Division
) -> tuple[Call, Callable[[Sequence[Tensor]], tuple[Tensor, ...]]]:
    """The call of the lowered plan, and what makes its added inputs. The tensors of the added ones are placeholders."""
    viewed = {view.tensor for view in views(plan.spec)}
    for operand, tensor in zip(plan.problem.operands, call.operands, strict=True):
        if operand.name in viewed and tensor.shape[0] > 1:
            raise UnsupportedError(
                f"{operand.name}: got batch {tensor.shape[0]}; keys and values of each packed sequence lie side by "
                "side in kernels, with batch 1; use backend='reference'"
            )
    packed = _packed(plan, call, division)
    return replace(call, operands=(*call.operands, *packed.placeholders())), packed.made


def added_inputs(plan: Plan, call: Call) -> dict[str, Tensor]:
    """The inputs that lowering adds to a call, by name."""
    if not isinstance(plan.spec.space, Segments):
        return {}
    made = _packed(plan, call, Division(1, 1, call.n_h)).made(call.operands[3:])
    return dict(zip((i.name for i in names_for(plan.spec).inputs()), made, strict=True))


def _packed(plan: Plan, call: Call, division: Division) -> PackedInputs:
    assert isinstance(plan.spec.space, Segments)
    return PackedInputs(plan.spec.space, [operand.name for operand in plan.problem.operands[3:]], call, division)


def lowered_launch(plan: Plan, call: Call, prepare: Callable[[Plan, Call], Launch], tile: tuple[int, int]) -> Launch:
    """The launch that `prepare` makes for the lowered plan, taking the tensors of the plan as it was written.

    `tile`: the rows of a query tile, and the tiles that a task takes at most.
    """
    target = lowered(plan)
    if target is plan:
        return prepare(plan, call)
    inner, added = lowered_call(plan, call, Division(*tile, call.n_h))
    launch = prepare(target, inner)

    def run(q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], *rest: Any) -> Any:
        return launch(q, k, v, (*inputs, *added(inputs)), *rest)

    return run


def lowered_backward(
    plan: Plan, call: Call, prepare: Callable[[Plan, Call], BackwardLaunch], tile: tuple[int, int]
) -> BackwardLaunch:
    """The same for a backward: the added inputs have no gradient."""
    target = lowered(plan)
    if target is plan:
        return prepare(plan, call)
    inner, added = lowered_call(plan, call, Division(*tile, call.n_h))
    launch, count = prepare(target, inner), len(call.operands)

    def run(dout: Tensor, dlse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, rows: Tensor,
            inputs: Sequence[Tensor], *rest: Any) -> list[Tensor | None]:  # fmt: skip
        return launch(dout, dlse, q, k, v, rows, (*inputs, *added(inputs)), *rest)[:count]

    return run
