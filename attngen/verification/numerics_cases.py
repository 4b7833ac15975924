"""Runs the families of inputs on a spec, and says how each came out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from attngen.errors import BoundsError, InputError
from attngen.ir.nodes import Paged, Segments
from attngen.ir.reference_call import bind
from attngen.ir.reference_routers import class_table
from attngen.ir.reference_rows import rows_of
from attngen.ir.reference_spaces import from_pages, segments
from attngen.samples import Shape
from attngen.verification.numerics_errors import Trial, in_dtype
from attngen.verification.numerics_inputs import FAMILIES, LONG
from attngen.verification.numerics_judge import Deviation, judge
from attngen.verification.report import Check, verdict

if TYPE_CHECKING:
    from attngen.samples import Sample
    from attngen.verification.numerics_inputs import Family
    from attngen.verification.subject import Subject

SHAPE = Shape(1, 4, 2, 161, 161, 64, 64)
"""Odd lengths, shared key heads, several tiles."""

FEW_QUERIES = (16, 8192)
SQUARE = (2048, 2048)
"""Long rows, (queries, keys): the square where the first queries see few keys."""

MOST_PAIRS = 1 << 22
"""Queries times keys, over all heads, that gradients of the dense oracle are taken of without being asked to."""

ROOM = 8.0
"""The formula stays finite at this multiple of the strength: a kernel scales and divides in another order."""


@dataclass(frozen=True, slots=True)
class Case:
    """One family in one dtype: the deviations, and the verdict."""

    family: str
    deviations: tuple[Deviation, ...]
    check: Check


def chosen_shape(subject: Subject) -> Shape:
    """The given shape, or the first that the oracle takes. Raises `InputError` where there is none."""
    if subject.given is not None:
        return subject.given
    for shape in (_affordable(subject, SHAPE), *subject.shapes()):
        try:
            subject.oracle(subject.sample(shape, "fp32"))
        except (InputError, BoundsError):
            continue
        return shape
    raise InputError("no shape was found that the spec takes; give one with --shape")


def _affordable(subject: Subject, shape: Shape) -> Shape:
    """The shape as the spec takes it, with fewer heads where a grid has many tokens."""
    fitting = subject.limits.fit(shape)
    if fitting.hq == 1 or "h" in subject.limits.exact or fitting.hq * fitting.nq * fitting.nk <= MOST_PAIRS:
        return fitting
    return _affordable(subject, replace(shape, hq=fitting.hq // 2))


def cases(subject: Subject, shape: Shape, dtype: str) -> Iterator[Case]:
    """Every family; long rows are left out by `subject.quick`."""
    for family in FAMILIES:
        yield _case(subject, family, shape, dtype)
    if not subject.quick:
        yield _long(subject, shape, dtype)


def _case(subject: Subject, family: Family, shape: Shape, dtype: str, remark: str = "") -> Case:
    name = f"{dtype} {family.name}"
    trial = _trial(subject, family, shape, dtype)
    found, missing = trial.by_kernel()
    gradients = not missing
    exact = trial.exact(gradients)
    deviations = judge(trial, found, trial.by_dense(gradients), exact, dtype, family.ordinary)
    worst = max(deviations, key=lambda d: d.share)
    # Which of the quantities comes closest to its bound says more than all of them in a row; the table has them.
    detail = f"{shape}{remark}: {worst.quantity} {worst.error:.1e} of {worst.allowed:.1e} allowed"
    if any(d.has_nan for d in deviations):
        detail += f"; NaN in {', '.join(d.quantity for d in deviations if d.has_nan)}"
    if missing:
        detail += f"; forward only: {missing}"
    return Case(family.name, deviations, verdict(name, all(d.ok for d in deviations), detail))


def _trial(subject: Subject, family: Family, shape: Shape, dtype: str) -> Trial:
    """The call at the greatest strength at which the formula, in single precision, is finite with room to spare."""
    ordinary = subject.sample(shape, "fp32")
    strengths = family.strengths[dtype]
    for strength in strengths:
        if strength == strengths[-1] or _finite(subject, _changed(ordinary, family, ROOM * strength)):
            break
    return Trial(subject, subject.kernel(), in_dtype(subject, _changed(ordinary, family, strength), dtype))


def _changed(ordinary: Sample, family: Family, strength: float) -> Sample:
    q, k, v = family.change(ordinary.q, ordinary.k, ordinary.v, strength)
    return replace(ordinary, q=q, k=k, v=v)


def _finite(subject: Subject, call: Sample) -> bool:
    found = Trial(subject, subject.kernel(), call).by_formula()
    return all(bool(value.isfinite().all()) for name, value in found.items() if name != "LSE")


def _long(subject: Subject, shape: Shape, dtype: str) -> Case:
    """Few queries and many keys; where the mask shows them few of those, as many queries."""
    why = "the spec takes no such shape"
    for queries, keys in (FEW_QUERIES, SQUARE):
        wanted = replace(shape, b=1, hq=1, hkv=1, nq=queries, nk=keys)
        fitting = subject.limits.fit(wanted)
        if (fitting.nq, fitting.nk) != (queries, keys):
            why = f"the spec takes {fitting.nq} queries and {fitting.nk} keys, not {queries} and {keys}"
            break
        try:
            longest = _longest_row(subject, fitting)
        except (InputError, BoundsError) as problem:
            why = problem.message
            continue
        if longest >= keys // 4 or (queries, keys) == SQUARE:
            return _case(subject, LONG, fitting, dtype, f", up to {longest} keys a row")
    return Case(LONG.name, (), Check(f"{dtype} {LONG.name}", "skipped", why))


def _longest_row(subject: Subject, shape: Shape) -> int:
    """The most keys that a row of a branch sees."""
    spec = subject.spec.ir
    call = bind(spec, subject.tensors(subject.sample(shape, "fp32")))
    if isinstance(spec.space, Paged):
        call = from_pages(call, spec.space)
    longest = 0
    for part in segments(call, spec.space) if isinstance(spec.space, Segments) else [call]:
        inputs = {**part.inputs, **{router.name: class_table(part, router) for router in spec.routers}}
        rows = (rows_of(part, branch, inputs) for branch in spec.branches)
        longest = max(longest, *(int(found.present.sum(-1).max()) for found in rows))
    return longest
