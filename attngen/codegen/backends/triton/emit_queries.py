"""The second kernel of a backward: the gradients of queries, a loop over keys for each query tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from attngen.codegen.backends.triton.config import room
from attngen.codegen.backends.triton.emit_pairs import Pairs, late_factor, times
from attngen.codegen.backends.triton.emit_rows import row_flow
from attngen.codegen.backends.triton.emit_scan import Scan
from attngen.codegen.backends.triton.flows import Flow
from attngen.codegen.backends.triton.parts import state_columns
from attngen.codegen.backends.triton.row_state import RowState, state
from attngen.codegen.backends.triton.scope import Scope
from attngen.codegen.backends.triton.text import before, within
from attngen.codegen.backends.triton.visits import Order, Visit
from attngen.codegen.printers.triton import Printer
from attngen.templates import render


@dataclass(frozen=True, slots=True)
class DotHoles:
    """One dot of queries.py.jinja or keys.py.jinja: its number, the room of its vectors, and what stores its sums."""

    index: int
    room: int
    store: str


@dataclass(frozen=True, slots=True)
class QueriesHoles:
    """The holes of queries.py.jinja."""

    title: str
    setup: str
    passes: str
    dots: tuple[DotHoles, ...]
    starts: str
    loops: str
    flows: str


class QueriesEmitter:
    """Prints branch `index`."""

    def __init__(
        self, scope: Scope, index: int, offset: int, names: Iterator[str], flows: tuple[Flow, ...],
        wanted: frozenset[str],
    ) -> None:  # fmt: skip
        self.scope, self.index, self.names = scope, index, names
        self.branch = scope.plan.branches[index]
        self.rows = RowState(scope, index, next(names))
        self.pairs = [Pairs(scope, index, j, offset, self.rows, names, wanted) for j in range(len(self.branch.keysets))]
        self.flows = [flow for flow in flows if flow.branch == index and flow.keyset is not None]
        self.dots = [late_factor(scope, exprs) for exprs in zip(*(p.found.dots for p in self.pairs), strict=True)]
        self.scans = [Scan(pairs, j) for j, pairs in enumerate(self.pairs)] if self.branch.scan else []

    def text(self) -> str:
        """The statements of the branch."""
        main = self.pairs[0]
        setup = [f"n_k = {self.scope.length(main.keyset)}", *main.queries, *main.loads()]
        for pairs in self.pairs:
            setup += [*pairs.tile.setup, *pairs.tile.score_setup()]
        passes = [self._pass(k) for k in reversed(range(len(self.branch.passes)))]
        printers = [pairs.printer() for pairs in self.pairs]
        steps = [self._step(j, printer) for j, printer in enumerate(printers)]
        starts = [line for j, p in enumerate(printers) for line in (self.pairs[j].tile.length, *before(p))]
        for flow in self.flows:
            if flow.kind != "key":
                starts.append(f"{flow.name} = tl.zeros((BLOCK_M,), tl.float32)")
        dots = tuple(DotHoles(i, room(dot.width), self._store(i, dot.width)) for i, dot in enumerate(main.keyset.dots))
        holes = QueriesHoles(
            title=f"branch {self.index}: {self.branch.normalizer.name}",
            setup="\n".join(setup),
            passes="\n".join([*passes, *self._there()]),
            dots=dots,
            starts="\n".join(starts),
            loops=self._visits(lambda j, masked: steps[j](masked), self.scans[0].back if self.scans else None),
            flows="\n".join(line for flow in self.flows for line in self._flush(flow)),
        )
        return render("triton/queries.py.jinja", holes)

    def _there(self) -> list[str]:
        """The way of a scan, with what it carries."""
        if not self.scans:
            return []
        lines = ["carried = tl.zeros((BLOCK_M,), tl.float32)", "behind = tl.zeros((BLOCK_M,), tl.float32)"]
        for scan in self.scans:
            lines += [scan.pairs.tile.length, *scan.setup()]

        def step(j: int, masked: bool) -> str:
            pairs = self.pairs[j]
            return pairs.text(masked, pairs.printer(), self.scans[j].there)

        # Other threads of the block read on the way back what one has left here.
        return [*lines, self._visits(step, self.scans[0].order), "tl.debug_barrier()"]

    def _visits(self, step: Callable[[int, bool], str], order: Order | None = None) -> str:
        texts = []
        places = list(enumerate(self.pairs))
        if order == "backward":
            places.reverse()
        for j, pairs in places:
            visit = Visit(self.scope, pairs.keyset, (self.index, j), next(self.names), order)
            texts.append(visit.text(lambda masked, j=j: step(j, masked)))  # type: ignore[misc]
        return "\n".join(texts)

    def _step(self, j: int, printer: Printer) -> Callable[[bool], str]:
        pairs = self.pairs[j]
        dots = [pairs.kept(printer, exprs[j]) for _, exprs in self.dots]
        flows = [
            (flow, pairs.kept(printer, flow.cotangent))
            for flow in self.flows
            if flow.keyset == j and flow.kind != "key"
        ]

        def outputs(sure: bool) -> list[str]:
            lines = []
            for i, value in enumerate(dots):
                lines.append(f"dq_{i} = product_onto(dq_{i}, {value(sure)}.to(k_{i}.dtype), k_{i})")
            for flow, value in flows:
                if flow.kind == "pair":
                    # A maximum forgets NaN, and remembers infinity: either makes the gradient NaN (gather.py).
                    lines.append(f"size = tl.abs({value(sure)})")
                    largest = 'tl.max(tl.where(size == size, size, float("inf")), 1)'
                    lines.append(f"{flow.name} = tl.maximum({flow.name}, {largest})")
                else:
                    lines.append(f"{flow.name} = {flow.name} + tl.sum({value(sure)}, 1)")
            return lines

        scan = self.scans[j].here if self.scans else None
        return lambda masked: pairs.text(masked, printer, outputs, scan=scan)

    def _pass(self, k: int) -> str:
        """A pass over the keys for the cotangent of what an earlier pass gave to each row."""
        plan = self.branch.passes[k]
        if plan.term is None:
            return ""
        printers = [pairs.printer() for pairs in self.pairs]
        lines = [f"dr_{k} = tl.zeros((BLOCK_M,), tl.float32)"]
        if plan.kind == "root":
            lines.append("slopes = tl.zeros((BLOCK_M,), tl.float32)")
        steps: list[Callable[[bool], str]] = []
        for pairs, printer in zip(self.pairs, printers, strict=True):
            steps.append(_pass_step(k, pairs, printer))
            lines += [pairs.tile.length, *before(printer)]
        lines.append(self._visits(lambda j, masked: steps[j](masked)))
        if plan.kind == "root":
            # The root moves so that the sum of the terms stays 1.
            lines.append(f"dr_{k} = tl.where(slopes == 0.0, 0.0, -dr_{k} / tl.where(slopes == 0.0, 1.0, slopes))")
        column = state_columns(self.scope.plan)[self.index][f"dr_{k}"]
        lines.append(f"tl.store({state(column)}, dr_{k}, mask=q_live)")
        return "\n".join(lines)

    def _store(self, i: int, width: int) -> str:
        name = f"dq_{self.index}_{i}"
        base = f"{name}_data + b * {name}_stride0 + h * {name}_stride1"
        lines, value = times(self.scope, f"dq_{i}", self.dots[i][0], next(self.names))
        stored = f"store_rows({base}, q, {name}_stride2, q_live, {name}_stride3, {value}, {width}, {room(width)})"
        return "\n".join([*lines, stored])

    def _flush(self, flow: Flow) -> list[str]:
        if flow.kind == "key":
            return []
        if flow.kind == "pair":
            largest = f"tl.max(tl.where(q_live, {flow.name}, 0.0), 0)"
            return [f"tl.store({flow.name}_peaks + (b * n_h + h) * tiles + tile, {largest})"]
        assert flow.keyset is not None
        keyset = self.pairs[flow.keyset]
        printer = self.scope.printer(self.rows.symbols(keyset.keyset), next(self.names))
        place, _ = self.scope.place(flow.load, printer)
        value = f"tl.where(q_live, {flow.name}, 0.0)"
        return [keyset.tile.length, *before(printer), *within(printer), *row_flow(flow, value, place)]


def _pass_step(k: int, pairs: Pairs, printer: Printer) -> Callable[[bool], str]:
    """One tile of that pass."""
    found = pairs.found.passes[k]
    share = pairs.kept(printer, found.share)
    slope = None if found.slope is None else pairs.kept(printer, found.slope)

    def outputs(sure: bool) -> list[str]:
        lines = [f"dr_{k} = dr_{k} + tl.sum({share(sure)}, 1)"]
        return lines if slope is None else [*lines, f"slopes = slopes + tl.sum({slope(sure)}, 1)"]

    return lambda masked: pairs.text(masked, printer, outputs)
