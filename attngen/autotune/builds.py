"""Candidates are built ahead of time, several at once, so that measuring never waits for a compiler.

Compilers are processes of their own: what they crash of is theirs. On the CPU a kernel goes into the cache, where the
process that measures finds it. For a GPU the kernels of a config are looked at as well, and what the lint says against
one is why it is dropped; no device is needed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from time import monotonic
from typing import Any

from attngen.autotune.workload import Workload
from attngen.errors import AttngenError

Verdict = tuple[Any, str | None]
"""A config, and why it is out."""


def build_all(work: Workload, configs: Sequence[Any], deadline: float) -> Iterator[Verdict]:
    """Each config as its build is done, the first ones first, about; those that there was no time for do not come.

    `deadline` is one of `time.monotonic`.
    """
    if work.backend == "triton":
        yield from _linted(work, configs, deadline)
        return
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        running = {pool.submit(_built, work, config): config for config in configs}
        yield from _as_done(running, deadline, lambda future: future.result())


def _built(work: Workload, config: Any) -> str | None:
    try:
        if work.backward:
            work.target.build_backward(work.plan, config, work.wanted)
        else:
            work.target.build(work.plan, config)
    except AttngenError as problem:
        return problem.message.partition("\n")[0]
    return None


def _as_done(running: dict[Future[Any], Any], deadline: float, reason: Any) -> Iterator[Verdict]:
    """The results as they come. At the deadline what is under way is waited for, and nothing else is begun."""
    waiting = set(running)
    try:
        while waiting:
            late = deadline - monotonic()
            if late <= 0:
                waiting = {future for future in waiting if not future.cancel()}
            done, waiting = wait(waiting, timeout=late if late > 0 else None, return_when="FIRST_COMPLETED")
            for future in done:
                yield running[future], reason(future)
    finally:
        for future in running:
            future.cancel()


def _linted(work: Workload, configs: Sequence[Any], deadline: float) -> Iterator[Verdict]:
    arch = work.gpu.arch if work.gpu is not None else _arch(work)
    own = _module(work, configs[0])
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        running = {pool.submit(_looked_at, work, config, own, arch): config for config in configs}
        yield from _as_done(running, deadline, lambda future: future.result())


def _looked_at(work: Workload, config: Any, own: Any, arch: str) -> str | None:
    from attngen.autotune.static import Job, look_at

    try:
        job = Job.of(_module(work, config), own, arch, launched=not work.elsewhere)
    except AttngenError as problem:
        return problem.message.partition("\n")[0]
    found = look_at(job).get("refused")
    return None if found is None else str(found)


def _arch(work: Workload) -> str:
    """The architecture of a GPU that the table does not have."""
    import torch

    major, minor = torch.cuda.get_device_capability(work.device)
    return f"sm_{major}{minor}"


def _module(work: Workload, config: Any) -> Any:
    if work.backward:
        return work.target.build_backward(work.plan, config, work.wanted)
    return work.target.build(work.plan, config)
