"""How many keys the rows of a mask see: exactly, from the closed form of the number of keys of a row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attngen.codegen.analysis import Evaluator, LoadBounds, Sizes, visible_count
from attngen.codegen.analysis.interval import ints
from attngen.codegen.analysis.loads import unknown
from attngen.codegen.analysis.tiles import coordinate_ranges, size_symbols
from attngen.ir.expr import Expr
from attngen.ir.nodes import Grid, Space

CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Counts:
    """Visible pairs of one batch and head, and the fewest and the most keys that a row sees."""

    pairs: int
    fewest: int
    most: int


def counts(
    mask: Expr, space: Space, sizes: Sizes, loads: LoadBounds = unknown, *, b: int = 0, h: int = 0
) -> Counts | None:
    """The counts for one batch and head in O(queries); None without a closed form, or where a tensor is not known."""
    count = visible_count(mask, space)
    if count is None:
        return None
    total, fewest, most = 0, sizes.n_k, 0
    for start in range(0, sizes.n_q, CHUNK):
        rows = np.arange(start, min(start + CHUNK, sizes.n_q))
        symbols = size_symbols(sizes, b, h) | {"q": ints(rows, rows)}
        if isinstance(space, Grid):
            symbols |= {f"q[{i}]": a for i, a in enumerate(coordinate_ranges((rows, rows), space))}
        found = Evaluator(symbols, loads).number(count)
        if not bool(np.all(found.point())):
            return None
        seen = np.broadcast_to(found.lo, rows.shape)
        total += int(seen.sum())
        fewest, most = min(fewest, int(seen.min())), max(most, int(seen.max()))
    return Counts(total, fewest, most)
