"""The loop over tiles that are boxes of a grid: those that the mask cuts first, then those that it leaves whole.

Both are the tokens of a product of ranges of boxes, `low` to `high` along each axis, where a smaller product, `full` to
`whole`, needs no mask. The others are numbered row by row too, past the smaller product.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from attngen.codegen.analysis import Range, Ranges
from attngen.codegen.backends.triton.scope import Scope
from attngen.codegen.backends.triton.text import block
from attngen.codegen.printers.triton import Printer
from attngen.codegen.printers.triton_values import Axes

Step = Callable[[bool], str]
"""step(masked)."""


def box_visits(scope: Scope, ranges: Ranges, printer: Printer, step: Step) -> list[str]:
    """Statements that perform the step at every box that is visited."""
    of = "q" if scope.by_keys else "kv"
    boxes = scope.boxes(of)
    rank, lines = len(boxes.dims), list[str]()
    for i, (axis, side, count) in enumerate(zip(ranges.axes, boxes.sides, boxes.counts, strict=True)):
        for j, r in enumerate(axis.outer):
            begin, end = ends(printer, r)
            lines += [
                f"begin, end = tl.maximum({begin}, 0), {end}",
                f"low_{i}_{j} = {f'tl.maximum(begin // {side}, high_{i}_{j - 1})' if j else f'begin // {side}'}",
                f"high_{i}_{j} = tl.maximum(tl.minimum((end + {side - 1}) // {side}, {count}), low_{i}_{j})",
                f"high_{i}_{j} = tl.where(begin < end, high_{i}_{j}, low_{i}_{j})",
            ]
        for j, r in enumerate(axis.inner):
            begin, end = ends(printer, r)
            # A box that reaches over the edge of the grid is never whole.
            lines.append(f"full_{i}_{j} = (tl.maximum({begin}, 0) + {side - 1}) // {side}")
            lines.append(f"whole_{i}_{j} = {end} // {side}")
    lines = [*printer.lines[Axes.NONE], *lines]
    split = not scope.one_loop and all(axis.inner for axis in ranges.axes)
    for chosen in product(*(range(len(axis.outer)) for axis in ranges.axes)):
        lines += [f"low_{i}, high_{i} = low_{i}_{j}, high_{i}_{j}" for i, j in enumerate(chosen)]
        lines += [line for i, axis in enumerate(ranges.axes) for line in _whole(i, len(axis.inner) if split else 0)]
        lines += [f"all_{rank}, inside_{rank} = low_0 * 0 + 1, low_0 * 0 + 1"]
        for i in reversed(range(rank)):
            lines.append(f"all_{i} = (high_{i} - low_{i}) * all_{i + 1}")
            lines.append(f"inside_{i} = (whole_{i} - full_{i}) * inside_{i + 1}")
        lines += [
            scope.loop("0", "(all_0 - inside_0).to(tl.int32)"),
            block("\n".join([*_outside(rank), *_corner(of, boxes.sides), step(True)])),
        ]
        if split:
            lines += [
                scope.loop("0", "inside_0.to(tl.int32)"),
                block("\n".join([*_inside(rank), *_corner(of, boxes.sides), step(False)])),
            ]
    return lines


def ends(printer: Printer, r: Range) -> tuple[str, str]:
    """The ends of a range as int64 scalars."""
    low, high = (printer.emit(e).cast("int") for e in (r.lo, r.hi))
    return low.typed(Axes.NONE), high.typed(Axes.NONE)


def _whole(i: int, count: int) -> list[str]:
    """The longest run of boxes along axis i, within those that are visited, that one of `count` ranges holds."""
    lines = [f"full_{i}, whole_{i} = low_{i}, low_{i}"]
    for j in range(count):
        lines += [
            f"a = tl.minimum(tl.maximum(full_{i}_{j}, low_{i}), high_{i})",
            f"z = tl.maximum(tl.minimum(whole_{i}_{j}, high_{i}), a)",
            f"better = z - a > whole_{i} - full_{i}",
            f"full_{i}, whole_{i} = tl.where(better, a, full_{i}), tl.where(better, z, whole_{i})",
        ]
    return lines


def _outside(rank: int) -> list[str]:
    """Statements for the box that is number i of those outside the smaller product. `free`: along a slower axis it lies
    outside already, so that all boxes of the others count."""
    lines = ["left, free = low_0 * 0 + i, low_0 < 0"]
    for k in range(rank - 1):
        each, some = f"tl.maximum(all_{k + 1}, 1)", f"tl.maximum(all_{k + 1} - inside_{k + 1}, 1)"
        lines += [
            f"beside = (high_{k} - low_{k} - (whole_{k} - full_{k})) * all_{k + 1}",
            "out = free | (left < beside)",
            f"row = left // {each}",
            f"past = tl.where(free | (row < full_{k} - low_{k}), row, row + (whole_{k} - full_{k}))",
            f"at_{k} = tl.where(out, low_{k} + past, full_{k} + (left - beside) // {some})",
            f"left = tl.where(out, left % {each}, (left - beside) % {some})",
            "free = out",
        ]
    k = rank - 1
    past = f"tl.where(free | (left < full_{k} - low_{k}), left, left + (whole_{k} - full_{k}))"
    return [*lines, f"at_{k} = low_{k} + {past}"]


def _inside(rank: int) -> list[str]:
    """Statements for the box that is number i of the smaller product."""
    lines = ["left = low_0 * 0 + i"]
    for k in reversed(range(rank)):
        lines += [f"at_{k} = full_{k} + left % (whole_{k} - full_{k})", f"left = left // (whole_{k} - full_{k})"]
    return lines


def _corner(of: str, sides: tuple[int, ...]) -> list[str]:
    return [f"{of}_corner_{k} = (at_{k} * {side}).to(tl.int32)" for k, side in enumerate(sides)]
