"""What happens beside the first call of its kind: it is written down, or tuned, where the user asked for that."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from attngen import settings
from attngen.autotune.database import mode
from attngen.autotune.key import Direction
from attngen.autotune.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attngen.autotune.situation import Situation
    from attngen.codegen.backend import Backend
    from attngen.codegen.plan import Plan

TUNED = frozenset({"quick", "full"})
RECORD = settings.variable("record")


def workload(
    plan: Plan,
    backend: str,
    situation: Situation,
    direction: Direction = "forward",
    wanted: frozenset[str] = frozenset(),
) -> Workload:
    """A call of a backend as tuning knows it, without its graph."""
    call = situation.call
    q, k, v, *inputs = (tensor.detach() for tensor in call.operands)
    sizes = call.n_b, call.n_h, call.n_q, call.n_k
    return Workload(
        plan.spec,
        replace(plan.problem, return_lse=False),
        backend,
        str(q.device),
        call.layout,
        sizes,
        (q, k, v),
        tuple(inputs),
        situation.numbers,
        direction,
        wanted,
    )


def attend(
    told: settings.AutotuneMode | None,
    plan: Plan,
    backend: Backend,
    situation: Situation,
    direction: Direction = "forward",
    wanted: Sequence[str] | frozenset[str] = (),
) -> bool:
    """Writes the call down and tunes it, as far as that was asked for; whether there is something new to look up."""
    chosen = mode(told)
    if chosen not in TUNED and RECORD not in os.environ:
        return False
    from attngen.autotune.first_call import tune_first
    from attngen.autotune.recorded import record
    from attngen.autotune.spaces import tuned_backends

    if backend.name not in tuned_backends():
        return False
    work = workload(plan, backend.name, situation, direction, frozenset(wanted))
    path = settings.current().record
    if path is not None:
        record(path, work)
    return tune_first(chosen, work) if chosen in TUNED else False
