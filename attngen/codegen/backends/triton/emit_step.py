"""What happens where one tile of queries meets one tile of keys."""

from __future__ import annotations

from dataclasses import dataclass

from attngen.codegen.backends.triton.text import before, within
from attngen.codegen.backends.triton.tile import Tile
from attngen.codegen.derive.overflow import scores_blow_up
from attngen.codegen.plan import BranchPlan
from attngen.codegen.printers.triton import Printer
from attngen.codegen.printers.triton_values import Axes, Value
from attngen.ir.expr import Expr, op, sym
from attngen.ir.signs import Spans
from attngen.ir.span import Span
from attngen.templates import render

LOG2E = 1.4426950408889634
S, M = sym("s"), sym("m")
NOT_ABOVE: Spans = {op("sub", S, M): Span(high=0.0)}
"""The anchor of a maximum of scores."""


@dataclass(frozen=True, slots=True)
class StepHoles:
    """The holes of step.py.jinja."""

    scores: str
    clamped: bool
    exponential: bool
    offset: str
    added: str
    anchored: bool
    anchor_lines: str
    anchor: str
    decays: bool
    decay_rate: str
    has_mass: bool
    scans: bool
    keep_lines: str
    keep: str
    descends: str
    weight_lines: str
    phi: str
    psi: str
    counts: bool
    sums_values: bool
    values: str
    weighted: bool
    factor_lines: str
    factor: str


class LastPass:
    """The step of the last pass over one key set."""

    def __init__(self, tile: Tile, branch: BranchPlan, prefix: str, results: dict[str, Value]) -> None:
        self.tile, self.branch = tile, branch
        scope, last, scan = tile.scope, branch.last, branch.scan
        symbols = scope.rows(tile.keyset) | results | {"s": Value("s", "float", Axes.PAIR)}
        later = symbols | {
            "m": Value("m", "float", Axes.ROW, Axes.KEY),
            "before": Value("before", "float", Axes.PAIR),
        }
        given = NOT_ABOVE if last.anchor == S else None
        self.anchors = scope.printer(symbols, f"{prefix}a")
        self.keeps = scope.printer(symbols, f"{prefix}c")
        self.weights = scope.printer(later, f"{prefix}w", given=given)
        self.factors = scope.printer(scope.pairs(tile.keyset), f"{prefix}f")
        self.anchor = self.phi = self.psi = self.keep = self.factor = ""
        if not branch.exponential:
            self.anchor = pair(self.anchors, last.anchor)
            self.keep = pair(self.keeps, None if scan is None else scan.keep)
            self.phi = pair(self.weights, last.phi)
            if last.psi is not None:
                same = last.psi == last.phi
                self.psi = "p" if same else f"tl.where(present, {pair(self.weights, last.psi)}, 0.0)"
        if branch.weight is not None:
            self.factor = pair(self.factors, branch.weight)
        self.setup = [tile.length, *before(self.anchors, self.keeps, self.weights, self.factors)]

    def text(self, masked: bool) -> str:
        """The statements of one tile."""
        branch, last, tile = self.branch, self.branch.last, self.tile
        return render(
            "triton/step.py.jinja",
            StepHoles(
                scores=tile.scores(masked),
                clamped=bool(branch.passes) or (branch.exponential and scores_blow_up(branch)),
                exponential=branch.exponential,
                offset=digits(last.offset),
                added=added(last.offset),
                anchored=last.anchor is not None,
                anchor_lines="\n".join(within(self.anchors)),
                anchor=self.anchor,
                decays=bool(branch.decay_rate),
                decay_rate=repr(branch.decay_rate),
                has_mass=last.psi is not None,
                scans=branch.scan is not None,
                keep_lines="\n".join(within(self.keeps)),
                keep=self.keep,
                descends=str(branch.scan is not None and branch.scan.direction == "backward"),
                weight_lines="\n".join(within(self.weights)),
                phi=self.phi,
                psi=self.psi,
                counts=branch.needs_count,
                sums_values=branch.needs_vsum,
                values=tile.load_values(),
                weighted=branch.weight is not None,
                factor_lines="\n".join(within(self.factors)),
                factor=self.factor,
            ),
        )


def added(offset: float) -> str:
    return f" + {offset!r}" if offset else ""


def digits(offset: float) -> str:
    """The offset of an exponential in binary digits."""
    return repr(offset * LOG2E)


def pair(printer: Printer, expr: Expr | None) -> str:
    """The text of a tile."""
    return "" if expr is None else printer.full(printer.emit(expr).cast("float"), Axes.PAIR)
