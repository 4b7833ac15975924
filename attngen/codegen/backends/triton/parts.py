"""What the kernels of a backward hand to each other and to the host, besides the gradients of indexed tensors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from attngen.codegen.derive.backward import row_factor, row_gradient
from attngen.codegen.plan import Plan
from attngen.ir.expr import const
from attngen.ir.nodes import View


@dataclass(frozen=True, slots=True)
class Part:
    """What one view adds to the gradient of its tensor: channels start .. start + width - 1 of it.

    `dot` is None for values. `direct`: nothing else reads the tensor, and the view reads all of its channels, so that
    what kernels write can be the gradient itself.
    """

    name: str
    view: View
    role: Literal["query", "key", "value"]
    branch: int
    keyset: int
    dot: int | None
    start: int
    width: int
    direct: bool


@lru_cache(maxsize=256)
def parts_of(plan: Plan) -> tuple[Part, ...]:
    """All parts of the gradients of what views read."""
    found: list[Part] = []
    for i, branch in enumerate(plan.branches):
        for n, dot in enumerate(branch.keysets[0].dots):
            found.append(Part(f"dq_{i}_{n}", dot.q, "query", i, 0, n, dot.q_start, dot.width, False))
        for j, keyset in enumerate(branch.keysets):
            for n, dot in enumerate(keyset.dots):
                found.append(Part(f"dk_{i}_{j}_{n}", dot.k, "key", i, j, n, dot.k_start, dot.width, False))
            found.append(Part(f"dv_{i}_{j}", keyset.v, "value", i, j, None, keyset.v_start, branch.width, False))
    tensors = [part.view.tensor for part in found]

    def direct(part: Part) -> bool:
        whole = part.width == plan.problem.operand(part.view.tensor).width
        return whole and tensors.count(part.view.tensor) == 1

    return tuple(Part(p.name, p.view, p.role, p.branch, p.keyset, p.dot, p.start, p.width, direct(p)) for p in found)


@lru_cache(maxsize=256)
def factored(plan: Plan, index: int) -> bool:
    """Whether the cotangents of acc and vsum are that of the result times a number of the row (`factor`, `vfactor`)."""
    found = row_gradient(plan, index, frozenset())
    return row_factor(found.acc) is not None and row_factor(found.vsum) is not None


def sums_values(plan: Plan, index: int) -> bool:
    """Whether anything flows through the sum of the visible values."""
    return row_gradient(plan, index, frozenset()).vsum != const(0.0)


def written_cotangents(plan: Plan, index: int) -> tuple[str, ...]:
    """The cotangents that the first kernel writes for the others, (B, H, Nq, width) each."""
    if factored(plan, index):
        return ()
    return ("dacc", "dvsum") if sums_values(plan, index) else ("dacc",)


def carried(plan: Plan) -> tuple[str, ...]:
    """What a scan leaves for rows and tiles of keys, (B, H, key tiles, Nq) each, by the names of pointers."""
    return tuple(
        f"{name}_{i}_{j}_data"
        for i, branch in enumerate(plan.branches)
        if branch.scan is not None
        for j in range(len(branch.keysets))
        for name in ("before", "after")
    )


@lru_cache(maxsize=256)
def state_columns(plan: Plan) -> tuple[dict[str, int], ...]:
    """The numbers that kernels of a backward keep of each row: columns of (B, H, Nq) by the name they have there."""
    found: list[dict[str, int]] = []
    at = 0
    for i, branch in enumerate(plan.branches):
        names = ["dmass", *(f"dr_{k}" for k, one in enumerate(branch.passes) if one.term is not None)]
        if factored(plan, i):
            names += ["factor", "vfactor"] if sums_values(plan, i) else ["factor"]
        found.append({name: at + n for n, name in enumerate(names)})
        at += len(names)
    return tuple(found)
