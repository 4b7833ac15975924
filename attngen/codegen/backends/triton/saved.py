"""The rows that a forward leaves for the backward, in the order of a Triton kernel: column by column, so that threads
that hold rows side by side read them side by side. Vectors of channels come whole."""

from __future__ import annotations

from collections.abc import Iterator

from attngen.codegen.backends.triton.config import room
from attngen.codegen.plan import Plan
from attngen.codegen.saved import saved_rows

ROWS = "n_b * n_h * n_q"
ROW = "(b * n_h + h) * n_q + q"


def numbers(plan: Plan, index: int) -> Iterator[tuple[str, int]]:
    """The numbers of a row: the name that kernels have for each, and its column."""
    branch, places = plan.branches[index], saved_rows(plan)[index]
    if branch.last.anchor is not None:
        yield "anchor", places.start
    if branch.needs_visible:
        yield "visible", places.start + 1
    if branch.last.psi is not None:
        yield "mass", places.start + 2
    if branch.needs_count:
        yield "count", places.start + 3
    for k, (m, r) in enumerate(places.passes):
        yield f"m_{k}", m
        yield f"r_{k}", r


def vectors(plan: Plan, index: int) -> Iterator[tuple[str, int]]:
    """The vectors of a row: the name that kernels have for each, and its first column."""
    places = saved_rows(plan)[index]
    for name, column in (("acc", places.acc), ("vsum", places.vsum)):
        if column is not None:
            yield name, column


def saving(plan: Plan, index: int) -> list[str]:
    """Statements that write the rows of a branch."""
    width, places = plan.branches[index].width, saved_rows(plan)[index]
    named = {column: name for name, column in numbers(plan, index)}
    whole = dict.fromkeys(column for _, first in vectors(plan, index) for column in range(first, first + width))
    lines = []
    for column in range(places.start, places.stop):
        if column not in whole:
            # What nobody reads is 0: who compares two runs finds them equal.
            value = named.get(column, "q * 0.0")
            lines.append(f"tl.store(saved_data + {column} * {ROWS} + {ROW}, {value}, mask=q_live)")
    for name, column in vectors(plan, index):
        base = f"saved_data + {column} * {ROWS} + (b * n_h + h) * n_q * {width}"
        lines.append(f"store_rows({base}, q, {width}, q_live, 1, {name}, {width}, {room(width)})")
    return lines


def loading(plan: Plan, index: int) -> list[str]:
    """Statements that read the numbers of the rows of a branch."""
    lines = []
    for name, column in numbers(plan, index):
        value = f"load_numbers(saved_data + {column} * {ROWS} + {ROW}, q_live)"
        # Counts of keys are exact in float32 up to 2^24.
        lines.append(f"{name} = {value}{'.to(tl.int32)' if name == 'visible' else ''}")
    return lines


def loading_vectors(plan: Plan, index: int) -> list[str]:
    """Statements that read the vectors of the rows of a branch."""
    width = plan.branches[index].width
    lines = []
    for name, column in vectors(plan, index):
        base = f"saved_data + {column} * {ROWS} + (b * n_h + h) * n_q * {width}"
        lines.append(f"{name} = load_rows({base}, q, {width}, q_live, 1, {width}, {room(width)})")
    return lines
