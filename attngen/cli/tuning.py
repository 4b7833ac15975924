"""The call that `attngen tune` tunes: from SPEC and options to a workload."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attngen.errors import UnsupportedError

if TYPE_CHECKING:
    from attngen.autotune.key import Direction
    from attngen.autotune.workload import Workload
    from attngen.kernel import Kernel
    from attngen.samples import Sample


def workload_of(kernel: Kernel, call: Sample, direction: Direction = "forward", gpu: str = "") -> Workload:
    """The workload of a call of a kernel, on the backend that runs it; `gpu`: for one of the table, not for what is
    here.

    Raises `UnsupportedError` where that has nothing to tune, or no backward.
    """
    from attngen.codegen.plan import make_plan
    from attngen.runtime.tuning import workload

    engine = kernel.engine()
    tensors, ints, floats = kernel._values(dict(call.inputs))
    q, k, v = kernel._flattened(call.q, call.k, call.v)
    plan = make_plan(engine.spec, engine.problem(q, k, v, tensors, False))
    situation = engine.situation(q, k, v, tensors, (*ints, *floats))
    asked = frozenset(n for n, t in zip(engine.operands[3:], tensors, strict=True) if t.is_floating_point())
    wanted = asked & engine.read if direction == "backward" else frozenset()
    work = replace(workload(plan, "triton", situation, direction, wanted), elsewhere=gpu)
    return _for_table(work) if gpu else _for_here(work, kernel.backend)


def _for_here(work: Workload, asked: str | None) -> Workload:
    from attngen.autotune.spaces import tuned_backends
    from attngen.pipeline import select_backend

    backend, refused = select_backend(work.plan, work.device.partition(":")[0], asked, work.backward)
    if backend.name not in tuned_backends():
        reasons = "".join(f"; {name}: {why}" for name, why in refused)
        raise UnsupportedError(f"{work.spec.name}: the {backend.name} backend has nothing to tune{reasons}")
    return replace(work, backend=backend.name)


def _for_table(work: Workload) -> Workload:
    reason = work.target.supports(work.plan)
    if reason is None and work.backward:
        reason = work.target.supports_backward(work.plan)
    if reason is not None:
        raise UnsupportedError(f"{work.spec.name}: no kernel is built for {work.elsewhere}: {reason}")
    return work


def table_name(device: str) -> str | None:
    """The name of the GPU in the table of devices that `--device h200` means; None for torch's own names."""
    from attngen.codegen.devices import DEVICES

    wanted = device.lower().replace("-", " ")
    return next((e.name for e in DEVICES if wanted and wanted in (e.name.lower(), e.name.lower()[4:])), None)
