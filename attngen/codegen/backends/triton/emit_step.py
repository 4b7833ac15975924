"""What happens where one tile of queries meets one tile of keys."""

from __future__ import annotations

from dataclasses import dataclass

from attngen.codegen.backends.triton.config import room
from attngen.codegen.backends.triton.scope import Scope
from attngen.codegen.backends.triton.text import before, within
from attngen.codegen.plan import BranchPlan, KeySetPlan
from attngen.codegen.printers.triton import Printer
from attngen.codegen.printers.triton_values import Axes, Value
from attngen.ir.expr import Expr, op, sym
from attngen.ir.nodes import View
from attngen.ir.signs import Spans
from attngen.ir.span import Span
from attngen.templates import render

LOG2E = 1.4426950408889634
S, M = sym("s"), sym("m")
NOT_ABOVE: Spans = {op("sub", S, M): Span(high=0.0)}
"""The anchor of a maximum of scores."""


@dataclass(frozen=True, slots=True)
class ScoreHoles:
    """The holes of scores.py.jinja."""

    masked: bool
    positions: str
    products: str
    core: str
    mask: str
    live: str


class Tile:
    """The keys, scores and mask of one key set, for all steps that need them. `prefix` keeps its names apart."""

    def __init__(self, scope: Scope, keyset: KeySetPlan, prefix: str) -> None:
        self.scope, self.keyset, self.prefix = scope, keyset, prefix
        self.setup: list[str] = [self.length]
        self.pointers = {dot: self._pointer(dot.k, dot.k_start, f"{prefix}k{i}") for i, dot in enumerate(keyset.dots)}
        self.values = self._pointer(keyset.v, keyset.v_start, f"{prefix}v")
        self.score = scope.printer(scope.pairs(keyset), f"{prefix}s")
        self.core = self.score.full(self.score.emit(keyset.core).cast("float"), Axes.PAIR)
        self.mask = scope.printer(scope.pairs(keyset), f"{prefix}m")
        self.live = self._live()
        self.setup += before(self.mask)

    @property
    def length(self) -> str:
        """The statement that says how many keys there are."""
        return f"n_k = {self.scope.length(self.keyset)}"

    def score_setup(self) -> list[str]:
        """What the score needs of rows. It may read the number of visible keys."""
        return [self.length, *before(self.score)]

    def _pointer(self, view: View, start: int, name: str) -> str:
        field, paged = self.scope.arguments.field(view.tensor), self._paged(view)
        head = self.scope.head(view, self.keyset, self.setup, f"{name}h")
        batch = "" if paged else f"b * {field}_stride0 + "
        self.setup.append(f"{name} = {field}_data + {batch}{head} * {field}_stride1 + {start} * {field}_stride3")
        return name

    def _paged(self, view: View) -> bool:
        return self.scope.pages(self.keyset) is not None and view.tensor in ("k", "v")

    def _live(self) -> str:
        if not self.keyset.masked:
            return "key_live[None, :]"
        value = self.mask.emit(self.keyset.mask)
        # Keys beyond the end read anything, so the mask alone does not tell.
        return f"key_live[None, :] & {self.mask.spread(value, Axes.PAIR)}"

    def positions(self, masked: bool) -> list[str]:
        """Statements for the keys of the tile."""
        lines = ["keys = start + tl.arange(0, BLOCK_N)"]
        lines.append("key_live = keys < stop" if masked else "key_live = None")
        return lines + self.scope.coordinates("kv", "keys")

    def _load(self, function: str, view: View, base: str, width: int) -> str:
        field = self.scope.arguments.field(view.tensor)
        size = f"{field}_stride3, {width}, {room(width)}"
        if not self._paged(view):
            return f"{function}({base}, keys, {field}_stride2, key_live, {size})"
        space = self.scope.pages(self.keyset)
        assert space is not None
        table = self.scope.arguments.field(space.table)
        page = f"inside(keys // {space.page}, {table}_size1) * {table}_stride1"
        at = f"tl.load({self.scope.entry(space.table)} + {page}).to(tl.int64) * {field}_stride0"
        return f"{function}({base}, {at} + (keys % {space.page}) * {field}_stride2, 1, key_live, {size})"

    def scores(self, masked: bool) -> str:
        """Statements that leave the scores of the tile in `s`, -inf where a key is absent."""
        holes = ScoreHoles(
            masked=masked,
            positions="\n".join(self.positions(masked)),
            products="\n".join(self._products()),
            core=self.core,
            mask="\n".join(within(self.mask)),
            live=self.live,
        )
        return render("triton/scores.py.jinja", holes)

    def _products(self) -> list[str]:
        lines = []
        for i, dot in enumerate(self.keyset.dots):
            loaded = self._load("load_columns", dot.k, self.pointers[dot], dot.width)
            lines.append(f"dot_{i} = product(query_{i}, {loaded})")
        return lines + within(self.score)

    def load_values(self, width: int) -> str:
        """The values of the tile."""
        return self._load("load_rows", self.keyset.v, self.values, width)


@dataclass(frozen=True, slots=True)
class StepHoles:
    """The holes of step.py.jinja."""

    scores: str
    clamped: bool
    exponential: bool
    adjust: str
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
                clamped=bool(branch.passes),
                exponential=branch.exponential,
                adjust=f" - {last.offset * LOG2E!r}" if branch.exponential and last.offset else added(last.offset),
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
                values=tile.load_values(branch.width),
                weighted=branch.weight is not None,
                factor_lines="\n".join(within(self.factors)),
                factor=self.factor,
            ),
        )


def added(offset: float) -> str:
    return f" + {offset!r}" if offset else ""


def pair(printer: Printer, expr: Expr | None) -> str:
    """The text of a tile."""
    return "" if expr is None else printer.full(printer.emit(expr).cast("float"), Axes.PAIR)
