"""Results and log-sum-exps against the oracle, in every precision, shape, layout and memory order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attngen.errors import BoundsError, InputError
from attngen.ir.walk import views
from attngen.samples import Sample, Shape
from attngen.verification.dense import dense
from attngen.verification.report import Check, verdict
from attngen.verification.subject import Subject, distance

LARGEST = {"fp64": 1e-12, "fp32": 1e-5, "bf16": 1e-2, "fp16": 2e-3}
"""Relative Frobenius error against float64 that is allowed at most."""

ROUNDING = {"fp64": 2.0**-53, "fp32": 2.0**-24, "bf16": 2.0**-9, "fp16": 2.0**-12}
"""Half a unit in the last place: what rounding the exact result alone may cost."""

LSE = 1e-4


def values(subject: Subject) -> Iterator[Check]:
    """Every shape in every precision: err(kernel) <= 2 x err(dense torch in that precision), and below the largest."""
    dtypes = ("fp32", "bf16", "fp16") if subject.quick else ("fp32", "bf16", "fp16", "fp64")
    for dtype in dtypes:
        for shape in subject.shapes():
            yield _value(subject, shape, dtype)


def _value(subject: Subject, shape: Shape, dtype: str) -> Check:
    name = f"values {dtype}"
    try:
        call = subject.sample(shape, dtype)
        wanted, wanted_lse = subject.oracle(call)
    except (InputError, BoundsError) as problem:
        return Check(name, "skipped", f"{shape}: the spec does not take it: {problem.message}")
    out, lse = subject.run(call)
    error = distance(out, wanted)
    plain = dense(subject.spec.ir, subject.tensors(call))
    rival = None if plain is None else distance(plain, wanted)
    allowed = LARGEST[dtype]
    if rival is not None:
        allowed = min(allowed, 2 * rival + ROUNDING[dtype])
    detail = f"{shape}: error {error:.1e}, allowed {allowed:.1e}"
    detail += "" if rival is None else f" (dense torch {rival:.1e})"
    holds = error <= allowed and out.dtype == call.q.dtype and tuple(out.shape) == tuple(wanted.shape)
    if lse is not None and wanted_lse is not None:
        gap = distance(lse, wanted_lse)
        tolerance = LSE if dtype in ("fp64", "fp32") else 50 * LSE
        holds, detail = holds and gap <= tolerance, f"{detail}, lse {gap:.1e}"
    return verdict(name, holds, detail)


def layouts(subject: Subject) -> Iterator[Check]:
    """Layout bnhd, and inputs whose memory is strided."""
    call = subject.sample(subject.shape(), "fp32")
    wanted, _ = subject.oracle(call)
    viewed = {view.tensor for view in views(subject.spec.ir)}
    inputs = {name: t.transpose(1, 2) if name in viewed else t for name, t in call.inputs.items()}
    turned = replace(call, **{name: getattr(call, name).transpose(1, 2) for name in "qkv"}, inputs=inputs)
    out, _ = subject.run(turned, subject.kernel(layout="bnhd"))
    error = distance(out.transpose(1, 2), wanted)
    yield verdict("layout bnhd", error <= LARGEST["fp32"], f"{call.shape}: error {error:.1e}")
    out, _ = subject.run(strided(call))
    error = distance(out, wanted)
    yield verdict("strided inputs", error <= LARGEST["fp32"], f"{call.shape}: error {error:.1e}")


def strided(call: Sample) -> Sample:
    """The same numbers where neither heads nor channels lie side by side."""
    import torch

    def spread(t: torch.Tensor) -> torch.Tensor:
        b, h, n, d = t.shape
        room = t.new_full((b, n, h + 1, 2 * d), float("nan"))
        room[:, :, :h, ::2] = t.transpose(1, 2)
        return room[:, :, :h, ::2].transpose(1, 2)

    return replace(call, q=spread(call.q), k=spread(call.k), v=spread(call.v))


def empty(subject: Subject) -> Iterator[Check]:
    """No keys give zeros, no queries an empty result."""
    shape = subject.shape()
    for name, cut in (("no keys", replace(shape, nk=0)), ("no queries", replace(shape, nq=0))):
        if set(subject.limits.exact) & {"q", "kv"} or subject.spec.inputs_needed or subject.spec.ir.routers:
            yield Check(name, "skipped", "the sizes are fixed by the spec or by its inputs")
            continue
        whole = subject.sample(shape, "fp32")
        call = replace(whole, q=whole.q[:, :, : cut.nq], k=whole.k[:, :, : cut.nk], v=whole.v[:, :, : cut.nk])
        out, _ = subject.run(call)
        yield verdict(name, out.shape[2] == cut.nq and bool((out == 0).all()), f"result {tuple(out.shape)}")
