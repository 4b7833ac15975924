"""A call as the database sees it: its key, and what is needed to find it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from typing import TYPE_CHECKING

from attngen.autotune.key import UNKNOWN, Direction, Head, Key, Sizes, bucket
from attngen.codegen.analysis.ranges import Range
from attngen.codegen.derive.fold import INTEGER
from attngen.codegen.lower.lowered import counted
from attngen.ir.expr import Const, Expr, Load, Op, Sym
from attngen.ir.nodes import Grid, Segments

if TYPE_CHECKING:
    from attngen.codegen.backend import Backend, Call
    from attngen.codegen.plan import KeySetPlan, Plan

SAMPLED = (1, 3)
"""Quarters of the queries at which the visited keys are counted."""


@dataclass(frozen=True, slots=True, eq=False)
class Situation:
    """A call of a spec: the structure of the spec, the sizes and the numbers of the call (integers, then floats)."""

    spec: str
    call: Call
    numbers: tuple[float, ...] = ()

    def head(self, plan: Plan, backend: Backend, direction: Direction) -> Head:
        """The key without its sizes."""
        q, k, v = self.call.operands[:3]
        heads = 2 if self.call.layout == "bnhd" else 1
        group = max(1, q.shape[heads] // max(1, k.shape[heads]))
        return Head(self.spec, backend.name, direction, plan.problem.dtype, q.shape[-1], v.shape[-1], group)

    def sizes(self, plan: Plan) -> Sizes:
        """The buckets of the lengths and of the visited share."""
        return Sizes(bucket(self.call.n_q), bucket(self.call.n_k), share_of(plan, self))

    def key(self, plan: Plan, backend: Backend, direction: Direction) -> Key:
        """Where measurements of this call are filed."""
        return Key(self.head(plan, backend, direction), self.sizes(plan))


def share_of(plan: Plan, situation: Situation) -> int:
    """The bucket of the share of the keys that queries visit, by the closed-form ranges at some queries; the largest
    of the key sets of all branches decides."""
    branches = (counted(plan) if isinstance(plan.spec.space, Segments) else plan).branches
    shares = [_share(branch.keysets[0], plan, situation) for branch in branches]
    known = [share for share in shares if share is not None]
    if len(known) < len(shares) or not known:
        return UNKNOWN
    return max(0, round(-log2(max(*known, 2.0**-20))))


def _share(keyset: KeySetPlan, plan: Plan, situation: Situation) -> float | None:
    if not keyset.masked:
        return 1.0
    if keyset.ranges is None:
        return None
    call, spec = situation.call, plan.spec
    names = [i.name for kind in (True, False) for i in spec.inputs if not i.axes and (i.type != "float") is kind]
    known: dict[str, int] = {"n_q": call.n_q, "n_k": call.n_k, "n_b": call.n_b, "n_h": call.n_h, "b": 0, "h": 0}
    known |= {name: int(value) for name, value in zip(names, situation.numbers, strict=False) if abs(value) < 2**62}
    if keyset.ranges.axes and isinstance(spec.space, Grid):
        total = 1.0
        for i, (axis, dim) in enumerate(zip(keyset.ranges.axes, spec.space.dims, strict=True)):
            found = _visited(axis.outer, f"[{i}]", dim, dim, known)
            if found is None:
                return None
            total *= found
        return total
    return _visited(keyset.ranges.outer, "", call.n_q, call.n_k, known)


def _visited(ranges: Sequence[Range], axis: str, n_q: int, n_k: int, known: dict[str, int]) -> float | None:
    """The mean share of n_k keys that lie in the ranges of single queries; None where a tensor decides."""
    seen = 0
    for quarter in SAMPLED:
        at = min(n_q - 1, n_q * quarter // 4)
        known[f"q_first{axis}"] = known[f"q_last{axis}"] = at
        for one in ranges:
            low, high = _value(one.lo, known), _value(one.hi, known)
            if low is None or high is None:
                return None
            seen += max(0, min(high, n_k) - max(low, 0))
    return seen / (len(SAMPLED) * max(1, n_k))


def _value(expr: Expr, known: dict[str, int]) -> int | None:
    if isinstance(expr, Op):
        made = INTEGER.get(expr.name)
        values = [_value(each, known) for each in expr.args]
        return None if made is None or None in values else int(made(*values))
    if isinstance(expr, Const):
        return int(expr.value)
    if isinstance(expr, Sym):
        return known.get(expr.name)
    return known.get(expr.tensor) if isinstance(expr, Load) and not expr.indices else None
