"""Runs the biased-rounding experiment: as flash attention in bf16 would compute it, and on the kernels at hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from attngen.normalizers.softmax import ADJUSTED, softmax
from attngen.verification.numerics_rounding import Bias, Rows, biases, flash, tied_rows
from attngen.verification.report import Check, verdict

if TYPE_CHECKING:
    from attngen.verification.subject import Subject

PRESENT, ABSENT = 10.0, 5.0
"""In standard errors: what counts as a bias, and what as none."""

LEFT = 0.1
"""The share of a bias that may be left: products have 16 bits, so the lattice of their sums keeps a little of it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The biases of one way to compute, by quantity."""

    where: str
    adjusted: bool
    biases: dict[str, Bias]


def measure(subject: Subject) -> list[Measured]:
    """The emulation with P V in bf16 and in float32, and the kernels; each with and without the adjusted anchor."""
    rows = tied_rows()
    found = []
    for where, product in (("P V in bf16", torch.bfloat16), ("P V in float32", torch.float32)):
        for adjusted in (False, True):
            found.append(Measured(where, adjusted, flash(rows, ADJUSTED if adjusted else 0.0, product)))
    for adjusted in (False, True):
        where, out = run_kernel(subject, rows, adjusted)
        found.append(Measured(where, adjusted, biases(rows, out)))
    return found


def run_kernel(subject: Subject, rows: Rows, adjusted: bool) -> tuple[str, torch.Tensor]:
    """The kernel of plain softmax on the backend and device of the subject: its name, and the result."""
    from attngen.kernel import Kernel
    from attngen.spec import Spec

    spec = Spec(normalizer=softmax(numerics="adjusted" if adjusted else None))
    kernel = Kernel(spec, backend=subject.backend)
    q, k, v = (t.to(subject.device) for t in (rows.q, rows.k, rows.v))
    with torch.no_grad():
        out = kernel(q, k, v)
    choice = kernel.explain(q, k, v).choice
    return f"{choice.backend} kernel, {choice.config.partition(' ')[0]}", out.cpu()


def weights_of(where: str) -> str:
    """What a kernel does with P, in a sentence."""
    if where.startswith("cpu") and where.endswith("avx512_bf16"):
        return "the kernel rounds P to bf16 for its dot products and sums them in float32"
    if where.startswith("cpu"):
        return "this instruction set has no bf16 dot products: the kernel keeps P in float32, as it does its sums"
    if where.startswith("reference"):
        return "the reference keeps everything in float64"
    return "the kernel sums P V in float32"


def verdicts(found: list[Measured]) -> Iterator[Check]:
    """The bias is there without the adjustment and gone with it, and no kernel has it."""
    plain, adjusted = found[0], found[1]
    for quantity in ("P V", "O", "delta"):
        before, after = plain.biases[quantity], adjusted.biases[quantity]
        holds = abs(before.z) > PRESENT and gone(after, before)
        detail = f"{_text(before)} without, {_text(after)} with the adjusted anchor"
        yield verdict(f"bias of {quantity}", holds, detail)
    kernel = [m for m in found if "kernel" in m.where]
    for one in kernel:
        worst = max(one.biases, key=lambda name: abs(one.biases[name].z))
        anchor = "adjusted" if one.adjusted else "plain"
        holds = all(gone(one.biases[name], plain.biases[name]) for name in one.biases)
        detail = f"{worst} {_text(one.biases[worst])}; {weights_of(one.where)}"
        yield verdict(f"{anchor} kernel", holds or not one.adjusted, detail)


def gone(after: Bias, before: Bias) -> bool:
    """No bias, or a small part of the one before."""
    return abs(after.z) < ABSENT or abs(after.mean) <= LEFT * abs(before.mean)


def _text(bias: Bias) -> str:
    return f"{bias.mean:+.1e} (z {bias.z:+.1f})"
