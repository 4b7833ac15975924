"""Schedules: which keys each query tile visits, and which of them need no mask.

From closed-form ranges where the mask has them, else by bisecting the key range of every query tile level by level:
only nodes that are sometimes visible are split. The work is O(N + visited tiles), never N x N.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from attngen.codegen.analysis import csr
from attngen.codegen.analysis.blocks import block_tables, blocks_of
from attngen.codegen.analysis.csr import Table
from attngen.codegen.analysis.evaluate import Evaluator
from attngen.codegen.analysis.interval import Ints, ints
from attngen.codegen.analysis.loads import LoadBounds, unknown
from attngen.codegen.analysis.ranges import Range, Ranges, closed_form, whole_mask
from attngen.codegen.analysis.tiles import Sizes, TileClass, Tiles, classes, evaluator, size_symbols
from attngen.ir.expr import Expr, symbols
from attngen.ir.nodes import Space

MOST_NODES = 1 << 20
"""Nodes that are split at most; what is left then stays in long segments that need the mask."""

CHUNK = 1 << 16
"""Nodes that are classified at once, which bounds the memory."""


@dataclass(frozen=True, slots=True)
class Patterns:
    """Whether the mask depends on the batch and on the head. What it does not depend on shares one schedule."""

    b: bool
    h: bool


@dataclass(frozen=True, slots=True)
class Statistics:
    """Totals over all batches and heads; the visible fraction of all (q, kv) lies between the two bounds."""

    tiles: int
    visited: int
    full: int
    partial: int
    least_visible: float
    most_visible: float


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """The block tables of a mask for concrete sizes. Batch b and head h use tables[pattern[b, h]]."""

    tile_q: int
    tile_k: int
    sizes: Sizes
    tables: tuple[Table, ...]
    pattern: NDArray[np.int32]

    def table(self, b: int = 0, h: int = 0) -> Table:
        """The table of a batch and a head."""
        return self.tables[int(self.pattern[b, h])]

    def statistics(self) -> Statistics:
        """Visited, full and partial tiles, and bounds of the visible fraction."""
        uses = np.bincount(self.pattern.reshape(-1), minlength=len(self.tables))
        rows = np.minimum(self.tile_q, self.sizes.n_q - np.arange(_tiles(self.sizes.n_q, self.tile_q)) * self.tile_q)
        full = partial = 0
        least = most = 0.0
        for one, times in zip(self.tables, uses.tolist(), strict=True):
            count = -(-one.end // self.tile_k) - one.begin // self.tile_k
            area = (one.end - one.begin) * np.repeat(rows, np.diff(one.offsets)).astype(np.float64)
            full += int(count[one.full].sum()) * times
            partial += int(count[~one.full].sum()) * times
            least += float(area[one.full].sum()) * times
            most += float(area.sum()) * times
        size = self.sizes
        heads = size.n_b * size.n_h
        cells = max(1, size.n_q * size.n_k * heads)
        total = _tiles(size.n_q, self.tile_q) * _tiles(size.n_k, self.tile_k) * heads
        return Statistics(total, full + partial, full, partial, least / cells, most / cells)


def patterns(mask: Expr) -> Patterns:
    """Whether the mask depends on the batch and on the head."""
    used = symbols(mask)
    return Patterns("b" in used, "h" in used)


def schedule(
    mask: Expr,
    space: Space,
    sizes: Sizes,
    tile: tuple[int, int],
    loads: LoadBounds = unknown,
    *,
    within: Ranges | None = None,
    most_nodes: int = MOST_NODES,
) -> Schedule:
    """The schedule of a mask for tiles of tile[0] queries and tile[1] keys.

    `within`: ranges that hold every visible key, where the mask has none in closed form.
    """
    mask = whole_mask(mask, space)
    depends = patterns(mask)
    ranges = closed_form(mask, space)
    if ranges is None and within is not None:
        ranges = replace(within, complete=False)
    blocks = None if ranges is not None else blocks_of(mask)
    if blocks is not None and blocks.q % tile[0] == 0 and blocks.k % tile[1] == 0:
        each = block_tables(mask, sizes, blocks, tile[0], loads, (depends.b, depends.h))
        own = np.arange(sizes.n_b)[:, None] * depends.b * (sizes.n_h if depends.h else 1)
        own = own + np.arange(sizes.n_h)[None, :] * depends.h
        return Schedule(tile[0], tile[1], sizes, each, own.astype(np.int32))
    batches = range(sizes.n_b if depends.b else min(1, sizes.n_b))
    heads = range(sizes.n_h if depends.h else min(1, sizes.n_h))
    places = [(b, h) for b in batches for h in heads]
    every: list[Table] = []
    # As many at once as memory should hold, whatever the mask is.
    cells = _tiles(sizes.n_q, tile[0]) * _tiles(sizes.n_k, tile[1])
    at_once = max(1, CHUNK // max(1, cells)) if ranges is None else 1
    for start in range(0, len(places), at_once):
        builder = _Builder(mask, space, sizes, tile, loads, places[start : start + at_once])
        every += builder.bisected(most_nodes) if ranges is None else builder.from_ranges(ranges, most_nodes)
    tables: list[Table] = []
    pattern = np.zeros((sizes.n_b, sizes.n_h), np.int32)
    for (b, h), found in zip(places, every, strict=True):
        known = next((i for i, t in enumerate(tables) if t.same(found)), None)
        if known is None:
            known = len(tables)
            tables.append(found)
        pattern[b if depends.b else slice(None), h if depends.h else slice(None)] = known
    return Schedule(tile[0], tile[1], sizes, tuple(tables), pattern)


def _tiles(n: int, tile: int) -> int:
    return -(-n // tile)


@dataclass(frozen=True, slots=True)
class _Nodes:
    """Pieces of rows of block tables: key tiles begin .. end - 1 of query tile `row`, counted through all places."""

    row: Ints
    begin: Ints
    end: Ints


@dataclass(frozen=True, slots=True)
class _Builder:
    """The tables of some places, pairs of a batch and a head: one evaluation looks at nodes of all of them."""

    mask: Expr
    space: Space
    sizes: Sizes
    tile: tuple[int, int]
    loads: LoadBounds
    places: list[tuple[int, int]]

    @property
    def rows(self) -> int:
        return _tiles(self.sizes.n_q, self.tile[0])

    @property
    def columns(self) -> int:
        return _tiles(self.sizes.n_k, self.tile[1])

    def bisected(self, most_nodes: int) -> list[Table]:
        """By bisection from whole rows."""
        row = np.arange(self.rows * len(self.places), dtype=np.int64)
        whole = _Nodes(row, np.zeros_like(row), np.full_like(row, self.columns))
        return self._tables(self._split(whole, most_nodes * max(1, len(self.places))))

    def from_ranges(self, ranges: Ranges, most_nodes: int) -> list[Table]:
        """From closed-form ranges; where they gave a condition up, their partial segments are bisected."""
        nodes, kind = self._pieces(ranges)
        if ranges.complete:
            return self._tables([(nodes, kind)])
        open_ = kind == TileClass.SOMETIMES
        done = _Nodes(nodes.row[~open_], nodes.begin[~open_], nodes.end[~open_])
        rest = _Nodes(nodes.row[open_], nodes.begin[open_], nodes.end[open_])
        return self._tables([(done, kind[~open_]), *self._split(rest, most_nodes)])

    def _tables(self, pieces: list[tuple[_Nodes, NDArray[np.int8]]]) -> list[Table]:
        row, begin, end = (np.concatenate([getattr(n, f) for n, _ in pieces]) for f in ("row", "begin", "end"))
        kind = np.concatenate([k for _, k in pieces])
        order = np.argsort(row, kind="stable")
        row, begin, end, kind = row[order], begin[order], end[order], kind[order]
        edges = np.searchsorted(row, np.arange(len(self.places) + 1) * self.rows)
        parts = [slice(*pair) for pair in pairwise(edges.tolist())]
        return [
            csr.table(row[p] - i * self.rows, begin[p], end[p], kind[p], self.rows, self.tile[1], self.sizes.n_k)
            for i, p in enumerate(parts)
        ]

    # --- bisection ----------------------------------------------------------------------------------------------------

    def _split(self, nodes: _Nodes, most_nodes: int) -> list[tuple[_Nodes, NDArray[np.int8]]]:
        done: list[tuple[_Nodes, NDArray[np.int8]]] = []
        seen = 0
        while len(nodes.row):
            seen += len(nodes.row)
            kind = self._classify(nodes)
            divisible = (kind == TileClass.SOMETIMES) & (nodes.end - nodes.begin > 1)
            if seen > most_nodes:
                divisible[:] = False
            kept = ~divisible & (kind != TileClass.NEVER)
            done.append((_Nodes(nodes.row[kept], nodes.begin[kept], nodes.end[kept]), kind[kept]))
            row, begin, end = nodes.row[divisible], nodes.begin[divisible], nodes.end[divisible]
            middle = (begin + end) // 2
            nodes = _Nodes(np.repeat(row, 2), np.stack((begin, middle), 1).reshape(-1),
                           np.stack((middle, end), 1).reshape(-1))  # fmt: skip
        return done or [(nodes, np.zeros(0, np.int8))]

    def _classify(self, nodes: _Nodes) -> NDArray[np.int8]:
        kind = np.empty(len(nodes.row), np.int8)
        tile_q, tile_k = self.tile
        places = np.array(self.places, np.int64).reshape(-1, 2)
        for start in range(0, len(kind), CHUNK):
            part = slice(start, start + CHUNK)
            place, row = np.divmod(nodes.row[part], self.rows)
            b, h = self.places[0] if len(places) == 1 else places[place].T
            q = row * tile_q
            k = nodes.begin[part] * tile_k
            q_last = np.minimum(q + tile_q, self.sizes.n_q) - 1
            k_last = np.minimum(nodes.end[part] * tile_k, self.sizes.n_k) - 1
            found = evaluator(self.space, Tiles((q, q_last), (k, k_last)), self.sizes, self.loads, b=b, h=h)
            kind[part] = classes(found.truth(self.mask))
        return kind

    # --- closed form --------------------------------------------------------------------------------------------------

    def _pieces(self, ranges: Ranges) -> tuple[_Nodes, NDArray[np.int8]]:
        """The rows cut at the ends of all outer and inner ranges, rounded to key tiles outward and inward."""
        row = np.arange(self.rows, dtype=np.int64)
        first = row * self.tile[0]
        last = np.minimum(first + self.tile[0], self.sizes.n_q) - 1
        ((b, h),) = self.places
        sizes = size_symbols(self.sizes, b, h)
        values = Evaluator(sizes | {"q_first": ints(first, first), "q_last": ints(last, last)}, self.loads)
        outer = [self._rounded(values, r, True) for r in ranges.outer]
        inner = [self._rounded(values, r, False) for r in ranges.inner]
        if not outer:
            return _Nodes(row[:0], row[:0], row[:0]), np.zeros(0, np.int8)
        cuts = np.sort(np.stack([end for pair in (*outer, *inner) for end in pair], 1), 1)
        begin, end = cuts[:, :-1].reshape(-1), cuts[:, 1:].reshape(-1)
        rows = np.repeat(row, cuts.shape[1] - 1)
        used = begin < end
        rows, begin, end = rows[used], begin[used], end[used]
        seen, full = (_inside(rows, begin, end, pairs) for pairs in (outer, inner))
        kind = np.where(seen, np.where(full, TileClass.ALWAYS, TileClass.SOMETIMES), TileClass.NEVER).astype(np.int8)
        return _Nodes(rows, begin, end), kind

    def _rounded(self, values: Evaluator, r: Range, outward: bool) -> tuple[Ints, Ints]:
        """A range in key tiles for every row; an empty one as (0, 0)."""
        low, high = values.number(r.lo), values.number(r.hi)
        lo, hi = (low.lo, high.hi) if outward else (low.hi, high.lo)
        lo, hi = (np.clip(np.broadcast_to(x, self.rows), 0, self.sizes.n_k) for x in (lo, hi))
        tile = self.tile[1]
        whole = -(-hi // tile) if outward else np.where(hi == self.sizes.n_k, self.columns, hi // tile)
        begin = lo // tile if outward else -(-lo // tile)
        empty = (lo >= hi) | (begin >= whole)
        return np.where(empty, 0, begin), np.where(empty, 0, whole)


def _inside(row: Ints, begin: Ints, end: Ints, pairs: list[tuple[Ints, Ints]]) -> NDArray[np.bool_]:
    inside = np.zeros(len(row), bool)
    for lo, hi in pairs:
        inside |= (lo[row] <= begin) & (end <= hi[row])
    return inside
