"""The keys, scores and mask of one key set, for every step where a tile of queries meets a tile of keys."""

from __future__ import annotations

from dataclasses import dataclass

from attngen.codegen.backends.triton.config import room
from attngen.codegen.backends.triton.scope import Scope
from attngen.codegen.backends.triton.text import before, within
from attngen.codegen.derive.bounded import bounded
from attngen.codegen.plan import KeySetPlan
from attngen.codegen.printers.triton_values import Axes
from attngen.ir.nodes import View
from attngen.templates import render


@dataclass(frozen=True, slots=True)
class ScoreHoles:
    """The holes of scores.py.jinja."""

    masked: bool
    products: str
    program: str
    core: str
    mask: str
    live: str


class Tile:
    """One key set, with values of `width` channels. `prefix` keeps its names apart. `loose`: queries that are not
    there may have scores, since they have no cotangents."""

    def __init__(self, scope: Scope, keyset: KeySetPlan, width: int, prefix: str, loose: bool = False) -> None:
        self.scope, self.keyset, self.width, self.prefix, self.loose = scope, keyset, width, prefix, loose
        self.heads: list[str] = [self.length]
        self.described: set[str] = set()
        self.pointers = {
            dot: self._pointer(dot.k, dot.k_start, dot.width, f"{prefix}k{i}") for i, dot in enumerate(keyset.dots)
        }
        self.values = self._pointer(keyset.v, keyset.v_start, self.width, f"{prefix}v")
        self.score = scope.printer(scope.pairs(keyset), f"{prefix}s")
        self.core = self.score.full(self.score.emit(keyset.core).cast("float"), Axes.PAIR)
        self.mask = scope.printer(scope.pairs(keyset), f"{prefix}m")
        self.live = self._live()

    @property
    def length(self) -> str:
        """The statement that says how many keys there are."""
        return f"n_k = {self.scope.length(self.keyset)}"

    @property
    def setup(self) -> list[str]:
        """What stands in front of all loops: where keys and values begin, and what masks need."""
        return [*self.heads, *before(self.mask)]

    def score_setup(self) -> list[str]:
        """What the score needs of rows. It may read the number of visible keys."""
        return [self.length, *before(self.score)]

    def _pointer(self, view: View, start: int, width: int, name: str) -> str:
        field, paged = self.scope.arguments.field(view.tensor), self._paged(view)
        head = self.scope.head(view, self.keyset, self.heads, f"{name}h")
        batch = "" if paged else f"b * {field}_stride0 + "
        self.heads.append(f"{name} = {field}_data + {batch}{head} * {field}_stride1 + {start} * {field}_stride3")
        boxed = self.scope.holds_boxes(self.keyset)
        if not (self.scope.by_keys or paged) and self.scope.describe(
            name, field, "kv", boxed, start, width, self.heads
        ):
            self.described.add(name)
        return name

    def _paged(self, view: View) -> bool:
        return self.scope.pages(self.keyset) is not None and view.tensor in ("k", "v")

    def _live(self) -> str:
        name, axis = ("q_live", Axes.ROW) if self.scope.by_keys else ("key_live", Axes.KEY)
        there = self.scope.layout.spread(name, axis, Axes.PAIR)
        if not self.keyset.masked:
            return "" if self.loose else there
        boxed = self.scope.holds_boxes(self.keyset)
        ends = None if self.scope.by_keys or boxed else bounded(self.keyset.mask)
        value = self.mask.spread(self.mask.emit(ends or self.keyset.mask), Axes.PAIR)
        # What lies beyond the end reads anything, so the mask alone does not tell.
        return value if ends or self.loose else f"{there} & {value}"

    def positions(self, masked: bool) -> list[str]:
        """Statements for the keys of the tile, or for its queries where those are what the loop goes along."""
        if self.scope.holds_boxes(self.keyset):
            return self.scope.in_box("q" if self.scope.by_keys else "kv", masked)
        if self.scope.by_keys:
            lines = ["q = start + tl.arange(0, BLOCK_M)", f"q_live = {'q < stop' if masked else None}"]
            return lines + self.scope.coordinates("q", "q")
        lines = ["keys = start + tl.arange(0, BLOCK_N)"]
        lines.append("key_live = keys < stop" if masked else "key_live = None")
        return lines + self.scope.coordinates("kv", "keys")

    def _load(self, function: str, view: View, base: str, width: int) -> str:
        field = self.scope.arguments.field(view.tensor)
        size = f"{field}_stride3, {width}, {room(width)}"
        if base in self.described:
            columns = function == "load_columns"
            rows = f"{base}, keys, {field}_stride2, key_live, {size}"
            boxed = self.scope.holds_boxes(self.keyset)
            loaded = self.scope.load_described(base, "kv", boxed, "start", rows, width)
            return f"tl.trans({loaded})" if columns else loaded
        if not self._paged(view):
            return f"{function}({base}, keys, {field}_stride2, key_live, {size})"
        space = self.scope.pages(self.keyset)
        assert space is not None
        table = self.scope.arguments.field(space.table)
        page = f"inside(keys // {space.page}, {table}_size1) * {table}_stride1"
        at = f"inside(tl.load({self.scope.entry(space.table)} + {page}).to(tl.int64), {field}_size0) * {field}_stride0"
        return f"{function}({base}, {at} + (keys % {space.page}) * {field}_stride2, 1, key_live, {size})"

    def scores(self, masked: bool) -> str:
        """Statements that leave the scores of the tile in `s`, -inf where a key is absent."""
        return self.scores_of("\n".join([*self.positions(masked), *self._products()]), masked)

    def scores_of(self, products: str, masked: bool) -> str:
        """The same from statements that leave products in dot_0, dot_1, ..."""
        holes = ScoreHoles(
            masked=masked and bool(self.live),
            products=products,
            program="\n".join(within(self.score)),
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
        return lines

    def load_values(self) -> str:
        """The values of the tile."""
        return self._load("load_rows", self.keyset.v, self.values, self.width)

    def load_keys(self, i: int) -> str:
        """The keys of dot i, a row each."""
        dot = self.keyset.dots[i]
        return self._load("load_rows", dot.k, self.pointers[dot], dot.width)
