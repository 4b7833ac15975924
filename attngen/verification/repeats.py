"""The same input gives the same bits: run after run, at any number of threads, under torch.compile."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from attngen.verification.report import Check, verdict
from attngen.verification.subject import Subject

THREADS = (1, 2, 3)


def bits(subject: Subject) -> Iterator[Check]:
    """Repeated runs, and 1 to 3 threads."""
    import torch

    call = subject.sample(subject.shapes()[-1] if subject.given is None else subject.given, "fp32")
    try:
        subject.oracle(call)
    except ValueError:
        call = subject.sample(subject.shape(), "fp32")
    first, first_lse = subject.run(call)

    def same() -> bool:
        out, lse = subject.run(call)
        return torch.equal(out, first) and (lse is None or first_lse is None or torch.equal(lse, first_lse))

    yield verdict("same bits again", all(same() for _ in range(3)), f"{call.shape}: 4 runs")
    before = torch.get_num_threads()
    found = []
    try:
        for count in THREADS:
            torch.set_num_threads(count)
            found.append(same())
    finally:
        torch.set_num_threads(before)
    detail = f"{call.shape}: {', '.join(map(str, THREADS))} threads"
    yield verdict("same bits by threads", all(found), detail)


def compiled(subject: Subject) -> Iterator[Check]:
    """torch.compile(fullgraph=True) of a call gives the same result."""
    if subject.quick:
        yield Check("torch.compile", "skipped", "left out by --quick")
        return
    import torch

    call, kernel = subject.sample(subject.shape(), "fp32"), subject.kernel()

    def doubled(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = kernel(q, k, v, **call.inputs)
        return result * 2

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler warns about its own internals
        wanted = doubled(call.q, call.k, call.v)
        found = torch.compile(doubled, fullgraph=True)(call.q, call.k, call.v)
    yield verdict("torch.compile", torch.equal(found, wanted), f"{call.shape}: fullgraph=True")
