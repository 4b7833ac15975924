"""Rows that see no key, in every dtype: the result and its gradients are exactly 0."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from attngen.ir.expr import op, sym
from attngen.verification.numerics_errors import Trial, in_dtype
from attngen.verification.numerics_judge import STATISTIC
from attngen.verification.report import Check, verdict
from attngen.verification.subject import distance

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from attngen.ir.expr import Expr
    from attngen.samples import Sample, Shape
    from attngen.verification.subject import Subject

FIRST = 3
"""The first query that still sees keys where some rows are masked."""


def empty_rows(subject: Subject, shape: Shape, dtype: str) -> Iterator[Check]:
    """Some rows masked, all rows masked, and a call without keys."""
    call = in_dtype(subject, subject.sample(shape, "fp32"), dtype)
    some, every = op("ge", sym("q"), FIRST), op("lt", sym("kv"), 0)
    yield _masked(subject, call, f"{dtype} some rows masked", some, lambda t: t[:, :, :FIRST], whole=False)
    if not subject.quick:
        yield _masked(subject, call, f"{dtype} all rows masked", every, lambda t: t, whole=True)
    if set(subject.limits.exact) & {"q", "kv"} or subject.spec.inputs_needed or subject.spec.ir.routers:
        yield Check(f"{dtype} no keys", "skipped", "the sizes are fixed by the spec or by its inputs")
        return
    none = replace(call, k=call.k[:, :, :0], v=call.v[:, :, :0])
    yield _zeros(Trial(subject, subject.kernel(), none), f"{dtype} no keys", lambda t: t, whole=True)


def _masked(
    subject: Subject, call: Sample, name: str, condition: Expr, rows: Callable[[Tensor], Tensor], whole: bool
) -> Check:
    return _zeros(Trial(subject, subject.kernel(subject.hiding(condition)), call), name, rows, whole)


def _zeros(trial: Trial, name: str, rows: Callable[[Tensor], Tensor], whole: bool) -> Check:
    """O and dq are 0 in the rows; with no row left dk and dv are 0 as well; nothing anywhere is NaN."""
    found, missing = trial.by_kernel()
    silent = {"O": rows(found["O"])}
    if not missing:
        silent["dq"] = rows(found["dq"])
        silent |= {"dk": found["dk"], "dv": found["dv"]} if whole else {}
    largest = {key: float(t.abs().amax()) if t.numel() else 0.0 for key, t in silent.items()}
    holds = all(value == 0 for value in largest.values())
    figures = ", ".join(f"|{key}| {value:g}" for key, value in largest.items())
    detail = f"{silent['O'].shape[2]} rows: largest {figures}"
    nan = [key for key, t in found.items() if bool(t.isnan().any())]
    if "LSE" in found:
        lse, wanted = rows(found["LSE"]), rows(trial.exact(gradients=False)["LSE"])
        holds = holds and distance(lse, wanted) <= STATISTIC
        detail += f", LSE {float(lse.min()):g}" if lse.numel() else ""
    detail += f"; NaN in {', '.join(nan)}" if nan else ""
    return verdict(name, holds and not nan, detail + (f"; forward only: {missing}" if missing else ""))
