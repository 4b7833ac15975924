"""A plan in words: what was derived and proven, one fact a line. `ATTNGEN_DEBUG=passes` prints it."""

from __future__ import annotations

from collections.abc import Iterator

from attngen.codegen.analysis import Ranges
from attngen.codegen.derive.passes import PassPlan
from attngen.codegen.plan import BranchPlan, KeySetPlan, Plan
from attngen.ir.expr import Expr
from attngen.ir.text_expr import expr_text


def plan_text(plan: Plan) -> str:
    """The plan, branch by branch and key set by key set."""
    lines = [f"plan {plan.spec.name} {plan.problem.dtype}, result width {plan.width}"]
    for i, branch in enumerate(plan.branches):
        lines += [f"  branch {i}: {line}" for line in _branch(branch)]
        for j, keyset in enumerate(branch.keysets):
            lines += [f"    key set {j}: {line}" for line in _keyset(keyset)]
    return "\n".join(lines)


def _branch(branch: BranchPlan) -> Iterator[str]:
    yield f"normalizer {branch.normalizer.name}, values {branch.width} wide"
    if branch.exponential:
        yield "weights are exp(s - m): powers of two, one multiply-add per score"
    if branch.decay_rate:
        yield f"sums at anchor m are worth exp({branch.decay_rate:g} (m - m')) of sums at anchor m'"
    if branch.needs_visible:
        yield "the visible keys of a row are counted first: n_visible has no closed form"
    for k, one in enumerate(branch.passes):
        yield f"pass {k}: {_pass(one, k)}"
    if branch.scan is not None:
        order = "last key first" if branch.scan.direction == "backward" else "first key first"
        yield f"keys in order, {order}: before = sum of {_line(branch.scan.keep)} over the keys visited before"
    if branch.passes or branch.scan:
        yield f"last pass: acc = sum of {_line(branch.last.phi)} times v"
    saved = ["numbers", *(name for name in ("acc", "vsum") if name in branch.saves)]
    yield f"a backward needs of each row: {', '.join(saved)}"


def _pass(one: PassPlan, k: int) -> str:
    parts = [] if one.anchor is None else [f"m[{k}] = maximum of {_line(one.anchor)}"]
    if one.term is not None and one.kind == "root":
        parts.append(f"r[{k}] such that the sum of {_line(one.term)} is 1")
    elif one.term is not None:
        parts.append(f"r[{k}] = sum of {_line(one.term)}")
    return ", ".join(parts)


def _line(expr: Expr) -> str:
    return " ".join(expr_text(expr).split())


def _keyset(keyset: KeySetPlan) -> Iterator[str]:
    yield f"score = {expr_text(keyset.alpha)} * ({expr_text(keyset.core)})"
    if not keyset.masked:
        yield "no mask"
    elif keyset.ranges is None:
        yield f"mask {expr_text(keyset.mask)}: a block table per call"
    else:
        yield f"mask {expr_text(keyset.mask)}: closed form"
        yield from _ranges(keyset.ranges)


def _ranges(ranges: Ranges) -> Iterator[str]:
    kinds = [("", ranges)] if not ranges.axes else [(f" of axis {i}", axis) for i, axis in enumerate(ranges.axes)]
    for axis, found in kinds:
        for name, intervals in (("visits keys", found.outer), ("needs no mask inside", found.inner)):
            for low, high in intervals:
                yield f"{name}{axis} [{expr_text(low)}, {expr_text(high)})"
