"""Where the gradients of indexed tensors go: by index class, which part of a tensor a task may touch.

The axes that batch and head fix are the same for a whole task; over the others a task keeps sums of its own, and these
are added to the total in the order of the tasks. So one rule serves every index class, without atomics: a slope per
head is one number, a bias per query or key a row, a relative bias its table, a full pair bias the rows of the task's
own queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from attngen.codegen.derive.backward import pair_gradient, row_gradient
from attngen.codegen.plan import Plan
from attngen.ir.expr import Load, sym, symbols

OF_A_TASK = frozenset({"b", "h", "n_q", "n_k", "n_b", "n_h"})
"""Symbols that are the same for all queries and keys of a task."""

MOST_AXES = 8


@dataclass(frozen=True, slots=True)
class Target:
    """One indexed load. `fixed` and `free` are axes of its tensor, in the order in which they lie in the total.

    `by_query`: the first free axis is indexed with the query itself, so that tasks touch disjoint parts.
    """

    load: Load
    fixed: tuple[int, ...]
    free: tuple[int, ...]
    by_query: bool

    @property
    def alone(self) -> bool:
        """One number per task, kept with its rounding error: thousands of rows add to it."""
        return not self.free


@lru_cache(maxsize=256)
def targets_of(plan: Plan, index: int, wanted: frozenset[str]) -> tuple[Target, ...]:
    """The targets of branch `index`, each load once."""
    row = row_gradient(plan, index, wanted)
    flows = [*row.loads, *row.lse_loads, *row.sink_loads]
    branch = plan.branches[index]
    for keyset in branch.keysets:
        flows += pair_gradient(branch, keyset, wanted).loads
    return tuple(_target(load, plan.order is None) for load in dict.fromkeys(load for load, _ in flows))


def _target(load: Load, in_rows: bool) -> Target:
    """`in_rows`: the queries of a task are neighbours in memory."""
    fixed = tuple(n for n, i in enumerate(load.indices) if symbols(i) <= OF_A_TASK)
    free = [n for n in range(len(load.indices)) if n not in fixed]
    queries = [n for n in free if in_rows and load.indices[n] == sym("q")]
    ordered = [*queries[:1], *(n for n in free if n not in queries[:1])]
    return Target(load, fixed, tuple(ordered), bool(queries))
