"""Rows that see nothing, and keys that nobody sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attngen.ir.expr import op, sym
from attngen.verification.report import Check, verdict
from attngen.verification.subject import Subject, distance

HIDDEN = 3


def empty_rows(subject: Subject) -> Iterator[Check]:
    """With the first queries masked from every key: O = 0, and the LSE of the oracle (-inf, or the sink)."""
    spec = subject.hiding(op("ge", sym("q"), HIDDEN))
    call = subject.sample(subject.shape(), "fp32")
    kernel = subject.kernel(spec)
    (out, lse), (wanted, wanted_lse) = subject.run(call, kernel), subject.oracle(call, kernel)
    rows = out[:, :, :HIDDEN]
    zero = bool((rows == 0).all()) and bool((wanted[:, :, :HIDDEN] == 0).all())
    detail = f"{rows.shape[2]} rows: largest |O| {float(rows.abs().amax()) if rows.numel() else 0.0:g}"
    holds = zero and distance(out, wanted) <= 1e-5
    if lse is not None and wanted_lse is not None:
        found, expected = lse[:, :, :HIDDEN], wanted_lse[:, :, :HIDDEN]
        holds = holds and distance(found, expected) <= 1e-6
        detail += f", LSE {_span(found)}"
    yield verdict("rows that see nothing", holds, detail)


def _span(values: object) -> str:
    numbers = sorted({float(x) for x in values.flatten().tolist()})  # type: ignore[attr-defined]
    return f"{numbers[0]:g}" if len(numbers) == 1 else f"{numbers[0]:g} to {numbers[-1]:g}"


def leaks(subject: Subject) -> Iterator[Check]:
    """NaN and infinity in a masked key change no bit of the result."""
    if subject.spec.ir.routers:
        yield Check("masked NaN", "skipped", "a router reads every key before the mask")
        return
    call = subject.sample(subject.shape(), "fp32")
    at = call.k.shape[2] // 2
    kernel = subject.kernel(subject.hiding(op("ne", sym("kv"), at)))
    for name, value in (("masked NaN", float("nan")), ("masked infinity", float("inf"))):
        k, v = call.k.clone(), call.v.clone()
        k[:, :, at], v[:, :, at] = value, value
        clean, _ = subject.run(call, kernel)
        out, _ = subject.run(replace(call, k=k, v=v), kernel)
        same = bool((out == clean).all())
        yield verdict(name, same, f"key {at} of {call.k.shape[2]}: " + ("no bit changes" if same else "it leaks"))
