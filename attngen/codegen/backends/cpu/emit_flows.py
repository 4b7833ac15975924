"""How the cotangent of an indexed load reaches the sums of a task.

A load that is the same for all keys of a row is summed in lanes and added once per row; one that moves along the keys,
or against them, is added vector by vector; any other is scattered lane by lane.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attngen.codegen.backends.cpu.loads import unit_step
from attngen.codegen.backends.cpu.scope import Scope
from attngen.codegen.printers.cpp import Printer, Rows, Value
from attngen.codegen.targets import Target
from attngen.ir.expr import const, substitute


@dataclass(frozen=True, slots=True)
class Flow:
    """Target number `place` of its branch; `of_row`: summed in slot `slot` of the lane sums of the row."""

    place: int
    of_row: bool
    slot: int


def pair_flow(
    scope: Scope, printer: Printer, target: Target, at: tuple[int, int], value: Value, slot: int, sure: str = "",
    lane: str = "kv", lanes: str = "keys",
) -> Flow:  # fmt: skip
    """Appends the statements that hand `value`, one cotangent per lane, on; `at` is (branch, place of the target)."""
    branch, place = at
    args = "row.args->"
    indices = {n: printer.emit(target.load.indices[n]).cast("int") for n in target.free}
    kept = f"kept<{sure}>(live, {value.text})" if sure else value.text
    varying = [n for n, index in indices.items() if index.vector]
    if not varying:
        printer.lines.append(f"    sums.s[{slot}] += {kept};")
        return Flow(place, True, slot)
    sizes = f"{args}{scope.arguments.field(target.load.tensor)}_size"
    strides = f"{args}targets_{branch}[{place}].stride"
    uniform = [f"{_row_index(target, n, i.text, sizes)} * {strides}[{n}]" for n, i in indices.items() if not i.vector]
    copy = " + ".join([f"copies[{place}]", *uniform])
    in_rows = lane != "kv" or scope.order is None  # neighbouring keys are neighbours in memory
    step = unit_step(target.load.indices[varying[0]], lane) if len(varying) == 1 and in_rows else None
    if step in (1, -1):
        n = varying[0]
        start = printer.emit(substitute(target.load.indices[n], {lane: const(0)}))
        printer.lines.append(
            f"    add_along_keys({copy}, {start.text}, {step}, {sizes}[{n}], {strides}[{n}], {lanes}, {kept});"
        )
        return Flow(place, False, slot)
    items = ", ".join(
        f"Index{{0, {index.text}, true, {sizes}[{n}], {strides}[{n}]}}"
        if index.vector
        else f"Index{{{_row_index(target, n, index.text, sizes)}, vi{{}}, false, INT64_MAX, {strides}[{n}]}}"
        for n, index in indices.items()
    )
    name = f"to{len(printer.lines)}"
    printer.lines.append(f"    const Index {name}[] = {{{items}}};")
    printer.lines.append(f"    scatter_at(copies[{place}], {name}, {kept});")
    return Flow(place, False, slot)


def flush_lines(
    scope: Scope,
    symbols: Mapping[str, Value],
    rows: Rows,
    branch: int,
    targets: Sequence[Target],
    flows: Sequence[Flow],
    lane_sums: bool = True,
) -> list[str]:
    """Statements that add the lane sums of a row (or plain numbers sums.s[i]) to the copies."""
    printer = scope.printer(symbols, args="row.args->", rows=rows)
    for flow in flows:
        target = targets[flow.place]
        amount = f"reduce_add(sums.s[{flow.slot}])" if lane_sums else f"sums.s[{flow.slot}]"
        printer.lines.append(f"    {add_line(scope, printer, target, (branch, flow.place), amount)}")
    return printer.lines


def add_line(scope: Scope, printer: Printer, target: Target, at: tuple[int, int], amount: str) -> str:
    """The statement that adds a number to where a row-uniform load lies in the copy of its target."""
    copy = f"copies[{at[1]}]"
    if target.alone:
        return f"add_alone({copy}, {amount});"
    sizes = f"row.args->{scope.arguments.field(target.load.tensor)}_size"
    strides = f"row.args->targets_{at[0]}[{at[1]}].stride"
    indices = {n: printer.emit(target.load.indices[n]).cast("int").text for n in target.free}
    parts = [f"{_row_index(target, n, text, sizes)} * {strides}[{n}]" for n, text in indices.items()]
    return f"{copy}[{' + '.join(parts)}] += {amount};"


def _row_index(target: Target, axis: int, index: str, sizes: str) -> str:
    """An index that the keys share, kept inside the copy."""
    # The copy of a target by query has the rows of the task, be there as many in the tensor or not.
    return index if target.by_query and axis == target.free[0] else f"inside({index}, {sizes}[{axis}])"
