"""Whether a declaration can be differentiated: no jumps, no infinite slopes, in what a gradient passes through.

Conditions on other data (heads, positions, captured tensors) are free. Kinks are, too. A jump that a published
mechanism has, and whose convention takes the derivative of the pieces, is declared where it is: `jumps_ignored`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from attngen.codegen.derive.continuity import Fault, faults
from attngen.codegen.derive.laws import mass_of, scores_of
from attngen.codegen.derive.points import pinned, settings, shown, values
from attngen.codegen.derive.smooth import is_smooth
from attngen.errors import SpecError
from attngen.ir.expr import Expr, sym, symbols
from attngen.ir.normalizer import Ordered, Streaming
from attngen.ir.signs import Spans
from attngen.ir.span import Span

STATE = {"acc": 0.8, "mass": 1.7, "vsum": -0.6, "m": 0.0, "count": 5.0, "dim": 1}
"""Where the other variables stay while one is looked at."""


def check_differentiable(
    node: Streaming | Ordered, jumps_ignored: Sequence[float] = (), numbers: Mapping[str, float] | None = None
) -> None:
    """Raises `SpecError`, saying where, if a part of the declaration jumps or has no finite slope.

    `jumps_ignored` are scores at which phi and psi (weight and log_keep) may jump; each must be one where one does.
    `numbers` are captured numbers by the name of their input, as they are now.
    """
    known = numbers or {}
    if isinstance(node, Ordered):
        parts: dict[str, Expr | None] = {"weight": node.weight, "log_keep": node.log_keep}
        scores = Span()
    else:
        parts, scores = {"phi": node.phi, "psi": node.psi}, scores_of(node)
        _check_anchor(node, scores)
        _check_state(node, known)
    jumps: list[float] = []
    for part, expr in parts.items():
        if expr is None:
            continue
        for fault in faults(expr, "s", {sym("s"): scores}, known, {"m": STATE["m"]}):
            if fault.jump and any(_same(fault.at, point) for point in jumps_ignored):
                jumps.append(fault.at)
                continue
            advice = _advice(fault)
            raise SpecError(f"normalizer {node.name!r}: {part} {fault.words}{advice}", source=expr.source)
    for point in jumps_ignored:
        if not any(_same(at, point) for at in jumps):
            given = " nor ".join(part for part, expr in parts.items() if expr is not None)
            raise SpecError(
                f"normalizer {node.name!r}, jumps_ignored: there is no jump of {given} at s = {shown(point)}; leave "
                "it out"
            )


def _check_state(node: Streaming, numbers: Mapping[str, float]) -> None:
    """finalize and lse, in each number of a row that a gradient passes through."""
    for part in ("finalize", "lse"):
        expr: Expr | None = getattr(node, part)
        for name in ("acc", "mass", "vsum"):
            if expr is None or name not in symbols(expr):
                continue
            given: Spans = {sym("mass"): mass_of(node)}
            others = {other: value for other, value in STATE.items() if other != name}
            found = faults(expr, name, given, numbers, others)
            if found:
                raise SpecError(
                    f"normalizer {node.name!r}: {part} {found[0].words}, so a gradient cannot pass through it; join "
                    "the pieces, and keep divisors away from 0",
                    source=expr.source,
                )


def _check_anchor(node: Streaming, scores: Span) -> None:
    """The anchor is a number for every score: the largest of a row is to be the maximum, not infinity or NaN."""
    if node.anchor is None or is_smooth(node.anchor, "s", {sym("s"): scores}):
        return
    import torch

    tried = [s / 4 for s in range(-40, 41) if s >= scores.low]
    # Whole numbers first, the smallest first: they are easier to read.
    tried.sort(key=lambda s: (s != int(s), abs(s)))
    for setting in settings((node.anchor,), ("s",), signed=False):
        found = values(pinned(node.anchor, setting), s=torch.tensor(tried))
        for s, value in zip(tried, found.tolist(), strict=True):
            if not math.isfinite(value):
                raise SpecError(
                    f"normalizer {node.name!r}: the anchor is {value} at s = {shown(s)}{setting}; its maximum over a "
                    "row must be a number: use torch.clamp, or another anchor",
                    source=node.anchor.source,
                )


def _same(at: float, point: float) -> bool:
    return abs(at - point) <= 1e-9 * max(1.0, abs(point))


def _advice(fault: Fault) -> str:
    if fault.jump:
        return (
            "; a gradient does not see a jump: join the pieces, or, where the published rule takes the derivative of "
            f"the pieces, say so with jumps_ignored=({shown(fault.at)},)"
        )
    if "reads a table" in fault.words:
        return "; a gradient does not see its steps: write it as a formula"
    positive = ', or declare scores="nonnegative" where no score is below zero' if fault.at < 0 else ""
    return f"; a gradient would not be finite: take a power of at least 1, or guard it with torch.clamp{positive}"
