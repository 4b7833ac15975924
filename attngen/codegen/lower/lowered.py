"""What a backend runs instead of a plan that its loop does not know: the plan of a lowered spec, with inputs added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from attngen.codegen.backend import BackwardLaunch, Call, Launch
from attngen.codegen.lower import prepare, segments
from attngen.codegen.lower.made import MadeCall
from attngen.codegen.lower.packed import PackedCall, check_batches, packed_plan
from attngen.codegen.lower.prepare import Prepared
from attngen.codegen.lower.units import Division
from attngen.codegen.plan import Plan, make_plan
from attngen.ir.nodes import Segments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def refusal(plan: Plan) -> str | None:
    """None, or the reason why the plan cannot be lowered."""
    if prepare.needed(plan.spec):
        return prepare.refusal(plan.spec)
    return segments.refusal(plan.spec) if isinstance(plan.spec.space, Segments) else None


def lowered(plan: Plan) -> Plan:
    """The plan that a backend runs: of the lowered spec, or the plan itself, where nothing is or can be lowered."""
    return plan if refusal(plan) is not None else counted(plan)


def counted(plan: Plan) -> Plan:
    """The plan whose masks say which keys are visible, whatever refuses to run it."""
    if isinstance(plan.spec.space, Segments):
        target = _packed(plan)
    elif prepare.needed(plan.spec) and refusal(plan) is None:
        target, _ = _prepared(plan)
    else:
        return plan
    # Plans that are equal may come from different lines of the user's: messages should name the right ones.
    return replace(target, written=plan)


_packed = lru_cache(maxsize=256)(packed_plan)


@lru_cache(maxsize=256)
def _prepared(plan: Plan) -> tuple[Plan, Prepared]:
    found = prepare.prepare(plan.spec, plan.problem)
    operands = (*plan.problem.operands, *(one.operand for one in found.made))
    return make_plan(found.spec, replace(plan.problem, operands=operands)), found


def lowered_wanted(plan: Plan, wanted: frozenset[str]) -> frozenset[str]:
    """The inputs of the lowered plan whose gradients are asked for, where these of the plan are."""
    if refusal(plan) is not None or isinstance(plan.spec.space, Segments) or not prepare.needed(plan.spec):
        return wanted
    _, found = _prepared(plan)
    return wanted | {one.input.name for one in found.made if one.input.grad and one.operand.width == 0}


def lowered_call(
    plan: Plan, call: Call, division: Division | None = None, wanted: frozenset[str] = frozenset()
) -> PackedCall | MadeCall:
    """The call of a lowered plan, what makes its added inputs, and what becomes of their gradients. The tensors of the
    added ones are placeholders."""
    if isinstance(plan.spec.space, Segments):
        check_batches(plan, call)
        return PackedCall(plan, call, division)
    return MadeCall(plan, _prepared(plan)[1], call, wanted)


def added_inputs(plan: Plan, call: Call, scalars: Sequence[float] = ()) -> dict[str, Tensor]:
    """The inputs that lowering adds to a call, by name."""
    target = lowered(plan)
    if target is plan:
        return {}
    q, k, v, *inputs = call.operands
    made = lowered_call(plan, call).made((q, k, v), inputs, scalars)
    names = [operand.name for operand in target.problem.operands[len(call.operands) :]]
    return dict(zip(names, made, strict=True))


def lowered_launch(
    plan: Plan, call: Call, prepare: Callable[[Plan, Call], Launch], tile: tuple[int, int] | None = None
) -> Launch:
    """The launch that `prepare` makes for the lowered plan, taking the tensors of the plan as it was written.

    `tile`: the rows of a query tile, and the tiles that a task takes at most, where tasks take several.
    """
    target = lowered(plan)
    if target is plan:
        return prepare(plan, call)
    inner = lowered_call(plan, call, None if tile is None else Division(*tile, call.n_h))
    launch = prepare(target, inner.call)

    def run(q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], scalars: Sequence[float], *rest: Any) -> Any:
        return launch(q, k, v, (*inputs, *inner.made((q, k, v), inputs, scalars)), scalars, *rest)

    return run


def lowered_backward(
    plan: Plan,
    call: Call,
    prepare: Callable[[Plan, Call], BackwardLaunch],
    wanted: frozenset[str],
    tile: tuple[int, int] | None = None,
) -> BackwardLaunch:
    """The same for a backward."""
    target = lowered(plan)
    if target is plan:
        return prepare(plan, call)
    inner = lowered_call(plan, call, None if tile is None else Division(*tile, call.n_h), wanted)
    launch = prepare(target, inner.call)

    def run(dout: Tensor, dlse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, rows: Tensor,
            inputs: Sequence[Tensor], scalars: Sequence[float]) -> list[Tensor | None]:  # fmt: skip
        made, back = inner.differentiated((q, k, v), inputs, scalars)
        return back(launch(dout, dlse, q, k, v, rows, (*inputs, *made), scalars))

    return run
