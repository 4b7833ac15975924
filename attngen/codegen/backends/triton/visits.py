"""The loops over the key tiles that a query tile visits, or over the query tiles that a key tile visits.

A step is the text of what happens at one tile. It reads `start`, the first key (or query) of the tile; a masked step
also `stop`, before which they end. Tiles that are visible throughout are visited after the others, without the mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

from attngen.codegen.analysis import Ranges, turned_ranges
from attngen.codegen.backends.triton.box_visits import Step, box_visits, ends
from attngen.codegen.backends.triton.scope import Scope
from attngen.codegen.backends.triton.text import block
from attngen.codegen.plan import KeySetPlan
from attngen.codegen.printers.triton import Printer
from attngen.codegen.printers.triton_values import Axes

Order = Literal["forward", "backward"]


@dataclass(frozen=True, slots=True)
class Visit:
    """One key set, at its place among branches and key sets. `order`: keys have to come in their order."""

    scope: Scope
    keyset: KeySetPlan
    place: tuple[int, int]
    prefix: str
    order: Order | None = None

    @property
    def block(self) -> str:
        """The size of a tile that is visited."""
        return "BLOCK_M" if self.scope.by_keys else "BLOCK_N"

    @property
    def count(self) -> str:
        """How many keys (or queries) there are."""
        return "n_q" if self.scope.by_keys else "n_k"

    def text(self, step: Step) -> str:
        """Statements that perform the step at every tile that is visited."""
        ranges = ranges_of(self.scope, self.keyset)
        length = f"n_k = {self.scope.length(self.keyset)}"
        if ranges is None:
            return "\n".join([length, self._table(step)])
        printer = self.scope.printer(self.scope.task(self.keyset), self.prefix)
        if self.scope.holds_boxes(self.keyset):
            return "\n".join([length, *box_visits(self.scope, ranges, printer, step)])
        if ranges.axes and self.order is None:
            return "\n".join([length, self._boxes(ranges, printer, step)])
        if ranges.axes:
            every = f"first, last = {self.count} * 0, ({self.count} + {self.block} - 1) // {self.block}"
            return "\n".join([length, every, self._in_order(step)])
        return "\n".join([length, self._flat(ranges, printer, step)])

    # --- closed form --------------------------------------------------------------------------------------------------

    def _flat(self, ranges: Ranges, printer: Printer, step: Step) -> str:
        outer = [ends(printer, r) for r in ranges.outer]
        inner = [ends(printer, r) for r in ranges.inner]
        lines = [*printer.lines[Axes.NONE]]
        for i, (begin, end) in enumerate(outer):
            lines.append(f"begin_{i}, end_{i} = tl.maximum({begin}, 0), tl.minimum({end}, {self.count})")
        lines += _sorted(len(outer))
        for j, (begin, end) in enumerate(inner):
            lines.append(f"full_begin_{j}, full_end_{j} = tl.maximum({begin}, 0), tl.minimum({end}, {self.count})")
        parts = []
        for i in range(len(outer)):
            after = f"tl.maximum(begin_{i} // {self.block}, last_{i - 1})" if i else f"begin_0 // {self.block}"
            part = [
                f"first_{i} = {after}",
                f"last_{i} = tl.maximum((end_{i} + {self.block} - 1) // {self.block}, first_{i})",
                f"last_{i} = tl.where(begin_{i} < end_{i}, last_{i}, first_{i})",
                f"first, last = first_{i}, last_{i}",
            ]
            parts.append((part, [*part, self._split(len(inner), step)]))
        if self.order is None:
            return "\n".join([*lines, *(line for _, text in parts for line in text)])
        bounds = [line for part, _ in parts for line in part[:-1]]
        chosen = range(len(outer)) if self.order == "forward" else reversed(range(len(outer)))
        loops = [f"first, last = first_{i}, last_{i}\n{self._in_order(step)}" for i in chosen]
        return "\n".join([*lines, *bounds, *loops])

    def _split(self, inner: int, step: Step) -> str:
        """Tiles first .. last - 1: those that need the mask, then the longest run of others."""
        lines = ["full, whole = first, first"]
        for j in range(inner):
            lines.append(f"full, whole = wider(first, last, full, whole, full_begin_{j}, full_end_{j}, {self.block})")
        if inner == 0 or self.scope.one_loop:
            return self._in_order(step)
        lines += [
            self.scope.loop("first.to(tl.int32)", "(last - (whole - full)).to(tl.int32)"),
            f"    start = tl.where(i < full, i, i + (whole - full)).to(tl.int32) * {self.block}",
            f"    stop = {self.count}",
            block(step(True)),
            self.scope.loop("full.to(tl.int32)", "whole.to(tl.int32)"),
            f"    start = i * {self.block}",
            block(step(False)),
        ]
        return "\n".join(lines)

    def _in_order(self, step: Step) -> str:
        at = "last - 1 - (i - first)" if self.order == "backward" else "i"
        lines = [
            self.scope.loop("first.to(tl.int32)", "last.to(tl.int32)"),
            f"    start = tl.cast({at}, tl.int32) * {self.block}",
            f"    stop = {self.count}",
            block(step(True)),
        ]
        return "\n".join(lines)

    def _boxes(self, ranges: Ranges, printer: Printer, step: Step) -> str:
        """On a grid: rows of the box one after the other, along each of which keys are consecutive."""
        dims = self.scope.dims
        lines = []
        for i, axis in enumerate(ranges.axes):
            for j, r in enumerate(axis.outer):
                begin, end = ends(printer, r)
                before = f"tl.maximum({begin}, high_{i}_{j - 1})" if j else f"tl.maximum({begin}, 0)"
                lines.append(f"low_{i}_{j} = {before}")
                lines.append(f"high_{i}_{j} = tl.maximum(tl.minimum({end}, {dims[i]}), low_{i}_{j})")
        lines = [*printer.lines[Axes.NONE], *lines]
        for chosen in product(*(range(len(axis.outer)) for axis in ranges.axes)):
            low = [f"low_{i}_{j}" for i, j in enumerate(chosen)]
            high = [f"high_{i}_{j}" for i, j in enumerate(chosen)]
            across = f"(({high[-1]} - {low[-1]} + {self.block} - 1) // {self.block})"
            count = " * ".join([*(f"({h} - {n})" for n, h in zip(low[:-1], high[:-1], strict=True)), across])
            body = ["row = i // across"]
            flat = "0"
            for k in reversed(range(len(dims) - 1)):
                body += [f"at_{k} = {low[k]} + row % ({high[k]} - {low[k]})", f"row = row // ({high[k]} - {low[k]})"]
            for k in range(len(dims) - 1):
                flat = f"({flat} + at_{k}) * {dims[k + 1]}"
            body += [
                f"start = ({flat} + {low[-1]} + i % across * {self.block}).to(tl.int32)",
                f"stop = {flat} + {high[-1]}",
                step(True),
            ]
            lines += [f"across = {across}", self.scope.loop("0", f"({count}).to(tl.int32)"), block("\n".join(body))]
        return "\n".join(lines)

    # --- tables -------------------------------------------------------------------------------------------------------

    def _table(self, step: Step) -> str:
        name = table_name(*self.place, self.scope.by_keys)
        entry = f"tl.load({name}_index + {{}})"
        pattern = f"tl.load({name}_pattern + b * n_h + h).to(tl.int64)"
        if self.scope.by_keys:
            # The grid is that of the key set with the most keys.
            lines = [f"row = {pattern} * {name}_rows + tile"]
            within = f", mask=tile < {name}_rows, other=0"
        else:
            lines, within = [f"row = {pattern} * tiles + tile"], ""
        lines += [f"{end} = tl.load({name}_{end} + row{within})" for end in ("first", "middle", "last")]
        if self.order is not None or self.scope.one_loop:
            at = "last - 1 - (i - first)" if self.order == "backward" else "i"
            lines += [self.scope.loop("first", "last"), f"    start = {entry.format(at)} * {self.block}"]
            lines.append(f"    stop = {self.count}")
            return "\n".join([*lines, block(step(True))])
        for begin, end, masked in (("first", "middle", True), ("middle", "last", False)):
            lines += [
                self.scope.loop(begin, end),
                f"    start = {entry.format('i')} * {self.block}",
                f"    stop = {self.count}",
            ]
            lines.append(block(step(masked)))
        return "\n".join(lines)


def ranges_of(scope: Scope, keyset: KeySetPlan) -> Ranges | None:
    """The closed form of what a tile visits; None: a block table says it."""
    if not scope.by_keys:
        return keyset.ranges
    return turned_ranges(keyset.mask, keyset.space)


def table_name(branch: int, keyset: int, by_keys: bool = False) -> str:
    """How the arguments of a block table begin."""
    return f"{'turned' if by_keys else 'table'}_{branch}_{keyset}"


TABLE_FIELDS = ("first", "middle", "last", "index", "pattern")


def _sorted(count: int) -> list[str]:
    """Statements that bring `count` ranges into the order of their begins; ranges may be empty."""
    lines = []
    for last in range(count - 1, 0, -1):
        for i in range(last):
            names = f"begin_{i}, end_{i}, begin_{i + 1}, end_{i + 1}"
            lines.append(f"{names} = later({names})")
    return lines
