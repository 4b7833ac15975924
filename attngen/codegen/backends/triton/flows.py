"""Gradients of indexed tensors: where each load of a branch sends its cotangent.

By what its indices depend on, a cotangent is summed over the queries and keys of a tile, over the keys of a row, over
the queries of a key, or not at all; sums and the places where they belong are written side by side, and the host adds
them in a fixed order. Those of single pairs go straight into a table of 64-bit integers: integer additions give the
same sum in every order, so atomics do not make results differ between runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from attngen.codegen.analysis.frame import KEYS, ROWS, depends_on
from attngen.codegen.derive.backward import Flows, pair_gradient, row_gradient
from attngen.codegen.plan import Plan
from attngen.ir.expr import Expr, Load, symbols

Kind = Literal["tile", "row", "key", "element", "pair"]
Source = Literal["pair", "result", "lse", "sink"]


@dataclass(frozen=True, slots=True)
class Flow:
    """The cotangents of one load in one expression of a branch. `keyset` is None where rows, not pairs, hand it out."""

    name: str
    branch: int
    keyset: int | None
    source: Source
    load: Load
    cotangent: Expr
    kind: Kind

    def parameters(self) -> dict[str, str]:
        """Triton's types of the pointers that kernels get for it."""
        if self.kind == "pair":
            return {f"{self.name}_table": "*i64", f"{self.name}_peaks": "*fp32", f"{self.name}_scale": "*fp32"}
        return {f"{self.name}_values": "*fp32", f"{self.name}_places": "*i64"}


@lru_cache(maxsize=256)
def flows_of(plan: Plan, wanted: frozenset[str]) -> tuple[Flow, ...]:
    """All flows to the wanted tensors."""
    found: list[Flow] = []

    def add(branch: int, keyset: int | None, source: Source, flows: Flows) -> None:
        for load, cotangent in flows:
            name, kind = f"flow_{len(found)}", _kind(load)
            found.append(Flow(name, branch, keyset, source, load, cotangent, kind))

    for i, branch in enumerate(plan.branches):
        row = row_gradient(plan, i, wanted)
        add(i, None, "result", row.loads)
        add(i, None, "lse", row.lse_loads)
        add(i, None, "sink", row.sink_loads)
        for j, keyset in enumerate(branch.keysets):
            add(i, j, "pair", pair_gradient(branch, keyset, wanted).loads)
    return tuple(found)


def _kind(load: Load) -> Kind:
    if "dim" in symbols(*load.indices):
        return "element"
    of_rows, of_keys = (any(depends_on(index, names) for index in load.indices) for names in (ROWS, KEYS))
    if of_rows and of_keys:
        return "pair"
    return "row" if of_rows else "key" if of_keys else "tile"
