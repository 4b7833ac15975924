"""The passes over the keys that come before the last one. Scores are computed anew in each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from attngen.codegen.backends.triton.emit_step import pair
from attngen.codegen.backends.triton.scope import Scope
from attngen.codegen.backends.triton.text import before, block, within
from attngen.codegen.backends.triton.tile import Tile
from attngen.codegen.derive.gradient import derivative
from attngen.codegen.derive.passes import PassPlan
from attngen.codegen.plan import BranchPlan
from attngen.codegen.printers.triton_values import Axes, Value
from attngen.ir.expr import Expr
from attngen.templates import render

Visits = Callable[[Callable[[int, bool], str]], str]
"""visits(step): the loops over all key sets; step(key set, masked) is the text of one tile."""


@dataclass(frozen=True, slots=True)
class PassHoles:
    """The holes of pass.py.jinja."""

    index: int
    scores: str
    anchored: bool
    anchor_lines: str
    anchor: str
    decays: bool
    decay_rate: str
    counts: bool
    sums: bool
    term_lines: str
    term: str
    root: bool
    by_root: str


def results(count: int) -> dict[str, Value]:
    """The symbols of what the first `count` passes gave."""
    return {f"{name}[{k}]": Value(f"{name}_{k}", "float", Axes.ROW) for k in range(count) for name in ("m", "r")}


class Pass:
    """One pass."""

    def __init__(self, scope: Scope, branch: BranchPlan, index: int, tiles: Sequence[Tile], prefix: str) -> None:
        self.scope, self.branch, self.index, self.tiles, self.prefix = scope, branch, index, tiles, prefix
        self.plan: PassPlan = branch.passes[index]
        main = branch.keysets[0]
        known = scope.rows(main) | results(index) | {"s": Value("s", "float", Axes.PAIR)}
        running = {name: replace(v, moves=Axes.KEY) for name, v in results(index + 1).items() if name not in known}
        self.anchors = scope.printer(known, f"{prefix}a")
        self.terms = scope.printer(known | running, f"{prefix}t")
        self.rows = scope.printer(scope.rows(main) | results(index) | {"count": _row("seen")}, f"{prefix}r")
        self.anchor = pair(self.anchors, self.plan.anchor)
        self.term = pair(self.terms, self.plan.term)
        self.by_root = ""
        if self.plan.kind == "root":
            assert self.plan.term is not None
            slope = derivative(self.plan.term, f"r[{index}]")
            self.by_root = "tl.zeros_like(s)" if slope is None else pair(self.terms, slope)
        self.counts = index == 0 and any(each.kind == "root" for each in branch.passes)

    def text(self, visits: Visits) -> str:
        """The statements of the whole pass: they leave m_k and r_k, and the number of keys where a root needs it."""
        return self._root(visits) if self.plan.kind == "root" else self._sum(visits)

    def _sum(self, visits: Visits) -> str:
        k, plan = self.index, self.plan
        lines = [self.tiles[0].length, *before(self.anchors, self.terms)]
        lines += [f"m_{k} = tl.zeros((BLOCK_M,), tl.float32)", "total = tl.zeros((BLOCK_M,), tl.float32)"]
        if plan.anchor is not None:
            lines.append('anchor = tl.full((BLOCK_M,), float("-inf"), tl.float32)')
        if self.counts:
            lines.append("seen = tl.zeros((BLOCK_M,), tl.float32)")
        if plan.sink is not None:
            sink = self._number(plan.sink.score)
            if plan.sink.anchor is not None:
                at = self._number(plan.sink.anchor)
                lines += [*self._own(), f'anchor = tl.where({sink} > float("-inf"), {at}, float("-inf"))']
                lines.append(f"m_{k} = or_zero(anchor)")
            printer = self.scope.printer({**self.rows.symbols, **results(k + 1)}, f"{self.prefix}z")
            term = printer.full(printer.emit(plan.sink.term).cast("float"), Axes.ROW)
            lines += [*self._own(), *before(printer)]
            lines.append(f'total = tl.where({sink} > float("-inf"), {term}, 0.0)')
        lines += [visits(self._step), f"r_{k} = total"]
        return "\n".join(lines)

    def _root(self, visits: Visits) -> str:
        k, plan = self.index, self.plan
        assert plan.low is not None
        assert plan.high is not None
        low, high = self._number(plan.low), self._number(plan.high)
        lines = [self.tiles[0].length, *before(self.anchors, self.terms), *self._own()]
        lines += [
            f"low, high = {low}, {high}",
            f"width, r_{k} = high - low, low",
            "done = (seen == 0.0) | ~q_live",
            "rounds = 0",
            "going = tl.sum(tl.where(done, 0, 1), 0)",
            f"while (going > 0) & (rounds < {MOST_ROUNDS}):",
        ]
        body = [
            "total, slope = tl.zeros((BLOCK_M,), tl.float32), tl.zeros((BLOCK_M,), tl.float32)",
            visits(self._step),
            f"r_{k}, low, high, width, done = next_root(",
            f"    r_{k}, low, high, width, done, total, slope, rounds, {plan.power!r}",
            ")",
            "rounds += 1",
            "going = tl.sum(tl.where(done, 0, 1), 0)",
        ]
        zeros = f"m_{k} = tl.zeros((BLOCK_M,), tl.float32)"
        return "\n".join([*lines, block("\n".join(body)), zeros])

    def _number(self, expr: Expr) -> str:
        return self.rows.full(self.rows.emit(expr).cast("float"), Axes.ROW)

    def _own(self) -> list[str]:
        return before(self.rows)

    def _step(self, keyset: int, masked: bool) -> str:
        tile, plan = self.tiles[keyset], self.plan
        return render(
            "triton/pass.py.jinja",
            PassHoles(
                index=self.index,
                scores=tile.scores(masked),
                anchored=plan.anchor is not None,
                anchor_lines="\n".join(within(self.anchors)),
                anchor=self.anchor,
                decays=bool(plan.decay_rate),
                decay_rate=repr(plan.decay_rate),
                counts=self.counts,
                sums=plan.term is not None,
                term_lines="\n".join(within(self.terms)),
                term=self.term,
                root=plan.kind == "root",
                by_root=self.by_root,
            ),
        )


MOST_ROUNDS = 100


def _row(name: str) -> Value:
    return Value(name, "float", Axes.ROW)
