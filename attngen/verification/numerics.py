"""Numerics of one spec: what `attngen verify SPEC --numerics` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from attngen.verification.numerics_bias import Measured, measure, verdicts
from attngen.verification.numerics_cases import Case, cases, chosen_shape
from attngen.verification.numerics_empty import empty_rows
from attngen.verification.numerics_page import Section, number
from attngen.verification.numerics_rounding import ROWS, STEPS
from attngen.verification.report import Check, Report
from attngen.verification.run import guarded
from attngen.verification.subject import Subject

if TYPE_CHECKING:
    from attngen.samples import Shape
    from attngen.spec import Spec

DTYPES = ("fp32", "bf16", "fp16")
ERRORS = ("inputs", "of", "kernel", "dense torch", "allowed", "largest", "of dense torch")
BIASES = ("computed with", "of", "anchor", "mean", "+-", "z", f"steps of {STEPS} above 0")


def numerics(
    spec: Spec,
    *,
    shape: Shape | None = None,
    dtypes: Sequence[str] = DTYPES,
    quick: bool = False,
    backend: str | None = None,
    device: str = "cpu",
    each: Callable[[Section], None] | None = None,
) -> Report:
    """The deviation of kernel and of dense torch from float64 over inputs that are hard, and biased rounding.

    One section for each dtype, and one for the rounding of bf16, if it is among them and a branch has a running
    maximum. `each` is called with every section as it is done; `quick` leaves out long rows and the call that is all
    masked. Raises `InputError` where no shape fits the spec.
    """
    subject = Subject.of(spec, backend, device, quick, shape)
    chosen = chosen_shape(subject)
    first = subject.sample(chosen, "fp32")
    used = subject.kernel().explain(first.q, first.k, first.v, **first.inputs).choice.backend
    done: list[Check] = []
    for section in _sections(subject, chosen, dtypes, used):
        done.extend(section.checks)
        if each is not None:
            each(section)
    return Report(spec.ir.name, used, tuple(done))


def _sections(subject: Subject, shape: Shape, dtypes: Sequence[str], backend: str) -> Iterator[Section]:
    for dtype in dtypes:
        yield _deviations(subject, shape, dtype, backend)
    if "bf16" in dtypes and any(getattr(b.normalizer, "anchor", None) is not None for b in subject.spec.ir.branches):
        yield _rounding(subject)


def _deviations(subject: Subject, shape: Shape, dtype: str, backend: str) -> Section:
    found: list[Case] = []

    def families(subject: Subject) -> Iterator[Check]:
        for case in cases(subject, shape, dtype):
            found.append(case)
            yield case.check

    checks = [*guarded(families, subject), *guarded(lambda subject: empty_rows(subject, shape, dtype), subject)]
    title = f"{subject.spec.ir.name} on {backend}, {dtype}: relative error against float64, and the largest of an entry"
    return Section(title, ERRORS, tuple(row for case in found for row in _rows(case)), tuple(checks))


def _rows(case: Case) -> Iterator[tuple[str, ...]]:
    for i, d in enumerate(case.deviations):
        figures = (d.error, d.dense, d.allowed, d.largest, d.largest_dense)
        yield ("" if i else case.family, d.quantity, *map(number, figures))


def _rounding(subject: Subject) -> Section:
    found: list[Measured] = []

    def experiment(subject: Subject) -> Iterator[Check]:
        found.extend(measure(subject))
        yield from verdicts(found)

    checks = tuple(guarded(experiment, subject))
    rows = tuple(row for one in found for row in _biases(one))
    title = f"biased rounding of bf16 (arXiv 2510.04212): mean signed error over {ROWS} rows with tied maxima"
    return Section(title, BIASES, rows, checks)


def _biases(one: Measured) -> Iterator[tuple[str, ...]]:
    for i, (name, bias) in enumerate(one.biases.items()):
        figures = (f"{bias.mean:+.1e}", f"{2 * bias.error:.0e}", f"{bias.z:+.1f}", f"{STEPS * bias.steps:.0f}")
        yield ("" if i else one.where, name, "adjusted" if one.adjusted else "plain", *figures)
