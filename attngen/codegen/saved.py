"""What a forward leaves of each row for the backward: one layout, read by both directions.

`rows` is (B, H, Nq, columns), float32 (float64 for float64), contiguous; a backend may lay the numbers out in an order
of its own. The columns of a branch, from its offset on:
    anchor, offset, mass, count         the running state at the end; the anchor is -inf where no key was visible.
                                        Where no offset is kept: the number of visible keys
    m[0], r[0], m[1], r[1], ...         of each earlier pass
    before                              with a scan: the sum of what was kept of the keys, as far as weights are not 0
    acc, vsum                           of the width of the values each, as far as the branch saves them
"""

from __future__ import annotations

from dataclasses import dataclass

from attngen.codegen.plan import BranchPlan, Plan

STATE = ("anchor", "offset", "mass", "count")


@dataclass(frozen=True, slots=True)
class SavedRow:
    """Columns of one branch, counted from the first column of a row; None: not saved."""

    start: int
    passes: tuple[tuple[int, int], ...]
    before: int | None
    acc: int | None
    vsum: int | None
    stop: int


def saved_row(branch: BranchPlan, start: int) -> SavedRow:
    """Where everything of a branch is."""
    at = start + len(STATE)
    passes = tuple((at + 2 * k, at + 2 * k + 1) for k in range(len(branch.passes)))
    at += 2 * len(branch.passes)
    before = None if branch.scan is None else at
    at += branch.scan is not None
    places: dict[str, int] = {}
    for name in ("acc", "vsum"):
        if name in branch.saves:
            places[name] = at
            at += branch.width
    return SavedRow(start, passes, before, places.get("acc"), places.get("vsum"), at)


def saved_rows(plan: Plan) -> tuple[SavedRow, ...]:
    """The columns of every branch, one after the other."""
    found: list[SavedRow] = []
    for branch in plan.branches:
        found.append(saved_row(branch, found[-1].stop if found else 0))
    return tuple(found)


def saved_columns(plan: Plan) -> int:
    """How many numbers are saved of a row."""
    return saved_rows(plan)[-1].stop


def saved_offset(plan: Plan, branch: int) -> int:
    """The first column of a branch."""
    return saved_rows(plan)[branch].start
