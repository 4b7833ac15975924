"""Runs the checks one after the other. A check that raises has failed; the others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from attngen.errors import AttngenError
from attngen.verification.absent import empty_rows, leaks
from attngen.verification.proofs import proofs, text_form
from attngen.verification.repeats import bits, compiled
from attngen.verification.report import Check, Report
from attngen.verification.subject import Subject
from attngen.verification.values import empty, layouts, values

if TYPE_CHECKING:
    from attngen.samples import Shape
    from attngen.spec import Spec

CHECKS: tuple[Callable[[Subject], Iterator[Check]], ...] = (
    text_form, proofs, values, layouts, empty, empty_rows, leaks, bits, compiled,
)  # fmt: skip


def verify(
    spec: Spec,
    *,
    shape: Shape | None = None,
    quick: bool = False,
    backend: str | None = None,
    device: str = "cpu",
    each: Callable[[Check], None] | None = None,
) -> Report:
    """Checks every property of a spec against the float64 oracle.

    Over awkward shapes, or over `shape` alone; `quick` takes fewer and leaves out torch.compile. `each` is called with
    every check as it is done. Raises `InputError` where no shape fits the spec.
    """
    subject = Subject.of(spec, backend, device, quick, shape)
    first = subject.sample(subject.shape(), "fp32")
    used = subject.kernel().explain(first.q, first.k, first.v, **first.inputs).choice.backend
    done: list[Check] = []
    for check in CHECKS:
        for found in guarded(check, subject):
            done.append(found)
            if each is not None:
                each(found)
    return Report(spec.ir.name, used, tuple(done))


def guarded(check: Callable[[Subject], Iterator[Check]], subject: Subject) -> Iterator[Check]:
    try:
        yield from check(subject)
    except AttngenError as problem:
        yield Check(check.__name__, "FAILED", problem.message)
    except Exception as problem:  # whatever a kernel does, the report is written
        yield Check(check.__name__, "FAILED", f"{type(problem).__name__}: {problem}")
