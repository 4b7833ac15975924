"""Masks that say the same for all pairs of a block: every position is divided by the size of a block before it counts.

So is the table of a router. Such a mask is looked at once for each pair of blocks, for all batches and heads together,
and tiles that lie in one block are visible as a whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attngen.codegen.analysis.csr import Table
from attngen.codegen.analysis.loads import LoadBounds
from attngen.codegen.analysis.tiles import Sizes, TileClass, Tiles, classes, evaluator
from attngen.ir.expr import Const, Expr, Op, Sym, postorder, symbols
from attngen.ir.nodes import Sequence

MOST_CELLS = 1 << 18
"""Pairs of blocks that are looked at together, which bounds the memory."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Queries and keys of a block."""

    q: int
    k: int


@lru_cache(maxsize=512)
def blocks_of(mask: Expr) -> Blocks | None:
    """The blocks of a mask that reads both positions, and each only as the number of its block; else None."""
    sizes = {"q": 0, "kv": 0}
    for node in postorder(mask):
        match node:
            case Op(name="floordiv", args=(Sym(name="q" | "kv" as name), Const(type="int", value=size))) if size >= 1:
                sizes[name] = gcd(sizes[name], int(size))
            case _ if any(isinstance(each, Sym) and each.name in sizes for each in node.children):
                return None
    gridded = any("[" in name for name in symbols(mask))
    return None if gridded or 0 in sizes.values() else Blocks(sizes["q"], sizes["kv"])


def common_blocks(masks: Iterable[Expr]) -> Blocks | None:
    """The largest blocks that lie in the blocks of every mask that has some; None where none has."""
    found = [blocks for blocks in map(blocks_of, masks) if blocks is not None]
    return Blocks(gcd(*(b.q for b in found)), gcd(*(b.k for b in found))) if found else None


def block_tables(
    mask: Expr, sizes: Sizes, blocks: Blocks, tile_q: int, loads: LoadBounds, depends: tuple[bool, bool]
) -> tuple[Table, ...]:
    """A table for each batch and head that the mask `depends` on, batches first; `tile_q` divides the queries of a
    block."""
    n_b, n_h = (n if wanted else min(1, n) for n, wanted in zip((sizes.n_b, sizes.n_h), depends, strict=True))
    rows, columns = -(-sizes.n_q // blocks.q), -(-sizes.n_k // blocks.k)
    if 0 in (n_b, n_h, rows, columns):
        return tuple(_table(np.zeros((rows, columns), np.int8), sizes, blocks, tile_q) for _ in range(n_b * n_h))
    b, h, q, k = np.ogrid[:n_b, :n_h, : rows * blocks.q : blocks.q, : columns * blocks.k : blocks.k]
    kinds: NDArray[np.int8] = np.empty((n_b, n_h, rows, columns), np.int8)
    together = max(1, MOST_CELLS // (n_b * n_h * columns))
    for start in range(0, rows, together):
        part = q[:, :, start : start + together]
        # A batch and a head of its own for each table, in place of one for all.
        at: dict[str, Any] = {"b": b, "h": h}
        found = evaluator(Sequence(), Tiles((part, part), (k, k)), sizes, loads, **at)
        kinds[:, :, start : start + together] = classes(found.truth(mask))
    each = kinds.reshape(n_b * n_h, rows, columns)
    return tuple(_table(kind, sizes, blocks, tile_q) for kind in each)


def _table(kind: NDArray[np.int8], sizes: Sizes, blocks: Blocks, tile_q: int) -> Table:
    """Runs of blocks of one class, again for every tile of a block of queries."""
    rows = len(kind)
    tiles = -(-sizes.n_q // tile_q)
    edge = np.full((rows, 1), -1, np.int8)
    changes = np.diff(np.concatenate([edge, kind, edge], 1), axis=1) != 0
    row, start = np.nonzero(changes[:, :-1])
    _, stop = np.nonzero(changes[:, 1:])
    seen = kind[row, start] != TileClass.NEVER
    row, start, stop = row[seen], start[seen], stop[seen] + 1
    full = kind[row, start] == TileClass.ALWAYS
    first = np.searchsorted(row, np.arange(rows + 1))
    of_tile = np.arange(tiles) * tile_q // blocks.q
    counts = np.diff(first)[of_tile]
    offsets = np.zeros(tiles + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    pick = np.repeat(first[of_tile] - offsets[:-1], counts) + np.arange(offsets[-1])
    begin, end = start * blocks.k, np.minimum(stop * blocks.k, sizes.n_k)
    return Table(offsets, begin[pick].astype(np.int32), end[pick].astype(np.int32), full[pick])
