"""Block tables in compressed rows: for each query tile, the segments of keys to visit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attngen.codegen.analysis.interval import Bools, Ints
from attngen.codegen.analysis.tiles import TileClass


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Segments of query tile i: offsets[i] .. offsets[i + 1] - 1, in ascending order, disjoint.

    A segment is the keys begin <= kv < end; `begin` is a multiple of the key tile, and so is `end` unless it is n_k.
    Keys in no segment are invisible to the tile; in a `full` segment every query sees every key.
    """

    offsets: NDArray[np.int64]
    begin: NDArray[np.int32]
    end: NDArray[np.int32]
    full: Bools

    def same(self, other: Table) -> bool:
        """Whether two tables hold the same segments."""
        return all(np.array_equal(getattr(self, f), getattr(other, f)) for f in ("offsets", "begin", "end", "full"))


def table(row: Ints, begin: Ints, end: Ints, kind: NDArray[np.int8], rows: int, tile_k: int, n_k: int) -> Table:
    """The table of pieces begin .. end - 1 in key tiles; neighbours of one class become one segment.

    Pieces of a row are disjoint; those that are empty or never visible are dropped. They come in any order.
    """
    used = (begin < end) & (kind != TileClass.NEVER)
    row, begin, end, kind = row[used], begin[used], end[used], kind[used]
    order = np.argsort(row * (n_k // tile_k + 2) + begin)
    row, begin, end, kind = row[order], begin[order], end[order], kind[order]
    starts = np.ones(len(row), bool)
    starts[1:] = (row[1:] != row[:-1]) | (begin[1:] != end[:-1]) | (kind[1:] != kind[:-1])
    ends = np.append(starts[1:], True) if len(row) else starts
    offsets = np.zeros(rows + 1, np.int64)
    np.cumsum(np.bincount(row[starts], minlength=rows), out=offsets[1:])
    first, last = begin[starts] * tile_k, np.minimum(end[ends] * tile_k, n_k)
    return Table(offsets, first.astype(np.int32), last.astype(np.int32), kind[starts] == TileClass.ALWAYS)
