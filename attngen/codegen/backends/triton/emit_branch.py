"""One branch: its queries, the passes before the last, the state of the rows, the last pass, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from attngen.codegen.backends.triton.config import room
from attngen.codegen.backends.triton.emit_pass import Pass, results
from attngen.codegen.backends.triton.emit_step import LOG2E, LastPass, added, digits
from attngen.codegen.backends.triton.saved import saving
from attngen.codegen.backends.triton.scope import Scope
from attngen.codegen.backends.triton.text import before, block, within
from attngen.codegen.backends.triton.tile import Tile
from attngen.codegen.backends.triton.visits import Order, Visit
from attngen.codegen.derive.backward import with_coefficient
from attngen.codegen.derive.overflow import products_fit, scores_blow_up
from attngen.codegen.plan import BranchPlan
from attngen.codegen.printers.triton_values import Axes, Layout, Value
from attngen.ir.expr import Expr
from attngen.ir.nodes import Concat
from attngen.templates import render

Names = Iterator[str]
"""Prefixes of temporaries, each used once in a kernel."""


@dataclass(frozen=True, slots=True)
class BranchHoles:
    """The holes of branch.py.jinja."""

    title: str
    setup: str
    count_visible: str
    passes: str
    last: str
    room: int
    exponential: bool
    slope: str
    sums_values: bool
    anchored: bool
    has_mass: bool
    counts: bool
    scans: bool
    start: str
    loops: str
    totals: str
    finish: str


class BranchEmitter:
    """Prints branch `index`, whose values begin at channel `offset` of the result."""

    def __init__(self, scope: Scope, index: int, offset: int, names: Names) -> None:
        self.scope, self.index, self.offset, self.names = scope, index, offset, names
        self.branch: BranchPlan = scope.plan.branches[index]
        self.tiles = [Tile(scope, keyset, self.branch.width, next(names)) for keyset in self.branch.keysets]
        self.order: Order | None = None if self.branch.scan is None else self.branch.scan.direction

    def text(self) -> str:
        """The statements of the branch."""
        branch = self.branch
        steps = [LastPass(tile, branch, next(self.names), results(len(branch.passes))) for tile in self.tiles]
        passes = [Pass(self.scope, branch, k, self.tiles, next(self.names)) for k in range(len(branch.passes))]
        holes = BranchHoles(
            title=f"branch {self.index}: {branch.normalizer.name}",
            setup="\n".join([*self._queries(), *(line for tile in self.tiles for line in tile.setup)]),
            count_visible=self._count_visible() if branch.needs_visible else "",
            passes="\n".join(
                [*(line for tile in self.tiles for line in tile.score_setup()), *(p.text(self._visits) for p in passes)]
            ),
            last="\n".join(line for step in steps for line in step.setup),
            room=room(branch.width),
            exponential=branch.exponential,
            slope=self._slope() if branch.exponential else "",
            sums_values=branch.needs_vsum,
            anchored=branch.last.anchor is not None,
            has_mass=branch.last.psi is not None,
            counts=branch.needs_count,
            scans=branch.scan is not None,
            start=self._start(),
            loops=self._visits(lambda j, masked: steps[j].text(masked)),
            totals=self._totals(),
            finish=self._finish(),
        )
        return render("triton/branch.py.jinja", holes)

    def _visits(self, step: Callable[[int, bool], str]) -> str:
        """The loops over all key sets; step(key set, masked) is the text of one tile."""
        places = list(enumerate(self.branch.keysets))
        if self.order == "backward":
            places.reverse()
        texts = []
        for j, keyset in places:
            visit = Visit(self.scope, keyset, (self.index, j), next(self.names), self.order)
            texts.append(visit.text(lambda masked, j=j: step(j, masked)))  # type: ignore[misc]
        return "\n".join(texts)

    def _queries(self) -> list[str]:
        lines: list[str] = []
        for i, dot in enumerate(self.branch.keysets[0].dots):
            load = self.scope.queries(dot, self.branch.keysets[0], lines, next(self.names))
            lines.append(f"query_{i} = {load}")
        return lines

    def _count_visible(self) -> str:
        def step(j: int, masked: bool) -> str:
            tile = self.tiles[j]
            if not masked:
                return "visible = visible + BLOCK_N"
            live = f"({tile.live}) & (q >= 0)[:, None]"
            lines = [
                *tile.positions(True),
                *within(tile.mask),
                f"visible = visible + tl.sum(tl.where({live}, 1, 0), 1)",
            ]
            return "\n".join(lines)

        return "\n".join(["visible = tl.zeros((BLOCK_M,), tl.int32)", self._visits(step)])

    def _row(self, expr: Expr, symbols: dict[str, Value] | None = None) -> tuple[list[str], str]:
        """Statements, and a number of each row."""
        known = self.scope.rows(self.branch.keysets[0]) | results(len(self.branch.passes)) | (symbols or {})
        printer = self.scope.printer(known, next(self.names))
        text = printer.full(printer.emit(expr).cast("float"), Axes.ROW)
        return [self.tiles[0].length, *before(printer)], text

    def _slope(self) -> str:
        lines, alpha = self._row(self.branch.keysets[0].alpha)
        # A scale of 0 must not turn an absent key's -inf into NaN.
        return "\n".join([*lines, f"slope = tl.maximum({alpha} * {LOG2E!r}, 1e-30)"])

    def _start(self) -> str:
        """What rows begin with: their sink, if they have one."""
        sink, last = self.branch.sink, self.branch.last
        if sink is None and not self.branch.exponential:
            return ""
        lines: list[str] = []
        present = 'sink > float("-inf")'
        if sink is not None:
            lines, score = self._row(sink.score)
            lines.append(f"sink = {score}")
        if self.branch.exponential:
            lines.append("anchor = lowest_anchor(slope)")
            if sink is not None:
                lines.append(f"anchor = tl.maximum(sink * {LOG2E!r} / slope, anchor)")
            lines.append(f"residue = residue_of(anchor, slope, {digits(last.offset)})")
            if sink is not None:
                lines.append(f"mass = tl.where({present}, tl.exp2(residue), 0.0)")
            return "\n".join(lines)
        assert sink is not None
        if sink.anchor is not None:
            more, anchor = self._row(sink.anchor)
            lines += [*more, f'anchor = tl.where({present}, {anchor}, float("-inf"))']
            lines.append(f"m = or_zero(anchor){added(last.offset)}")
        more, term = self._row(sink.term, {"m": Value("m", "float", Axes.ROW)})
        return "\n".join([*lines, *more, f"mass = tl.where({present}, {term}, 0.0)"])

    def _totals(self) -> str:
        last = self.branch.last
        if last.anchor is None:
            return ""
        if not self.branch.exponential:
            return f"m = or_zero(anchor){added(last.offset)}"
        lines = []
        if not products_fit(self.scope.plan.problem.dtype) and not scores_blow_up(self.branch):
            # Of infinite scores no weights can be told: the row gives what one without keys does.
            lines += [
                "infinite = is_infinite(anchor, slope)",
                "anchor, mass = tl.where(infinite, 0.0, anchor), tl.where(infinite, 0.0, mass)",
                "acc = tl.where(infinite[:, None], 0.0, acc)",
            ]
        return "\n".join([*lines, f"m = level_of(anchor, slope, {digits(last.offset)})"])

    def _finish(self) -> str:
        branch, plan = self.branch, self.scope.plan
        totals = {name: Value(name, "float", Axes.ROW) for name in ("m", "mass", "count")}
        lines = []
        if plan.problem.return_lse and branch.last.lse is not None:
            more, lse = self._row(branch.last.lse, totals)
            lines += [*more, f"total_lse = {lse}"]
            if branch.drops_massless:
                lines.append('total_lse = tl.where(mass == 0.0, float("-inf"), total_lse)')
            lines.append("tl.store(lse_data + (b * n_h + h) * n_q + q, total_lse, mask=q_live)")
        columns = {name: Value(name, "float", Axes.PAIR) for name in ("acc", "vsum")}
        columns["dim"] = Value("dim", "int", Axes.KEY)
        known = self.scope.rows(branch.keysets[0]) | results(len(branch.passes)) | totals | columns
        printer = self.scope.printer(known, next(self.names), Layout(keys=str(room(branch.width))))
        value = printer.full(
            printer.emit(with_coefficient(plan, self.index, branch.last.finalize)).cast("float"), Axes.PAIR
        )
        lines += [self.tiles[0].length, f"dim = tl.arange(0, {room(branch.width)})", *before(printer), *within(printer)]
        lines.append(f"result = {value}")
        if branch.drops_massless:
            lines.append("result = tl.where((mass == 0.0)[:, None], 0.0, result)")
        saved = block("\n".join(saving(plan, self.index)))
        return "\n".join([*lines, *self._store(), *(["if save != 0:", saved] if saved else [])])

    def _store(self) -> list[str]:
        plan, width = self.scope.plan, self.branch.width
        base = f"out_data + b * out_stride0 + h * out_stride1 + {self.offset} * out_stride3"
        store = f"store_rows({base}, q, out_stride2, q_live, out_stride3, {{}}, {width}, {room(width)})"
        if len(plan.branches) == 1 or isinstance(plan.spec.combine, Concat):
            return [store.format("result")]
        lines = ["combined = combined + result" if self.index else "combined = result"]
        return [*lines, store.format("combined")] if self.index + 1 == len(plan.branches) else lines
