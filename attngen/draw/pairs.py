"""How many pairs of a query and a key a mask leaves: exactly, from the closed form of the number of keys of a row."""

from __future__ import annotations

import numpy as np

from attngen.codegen.analysis import Evaluator, LoadBounds, Sizes, visible_count
from attngen.codegen.analysis.interval import ints
from attngen.codegen.analysis.loads import unknown
from attngen.codegen.analysis.tiles import coordinate_ranges, size_symbols
from attngen.ir.expr import Expr
from attngen.ir.nodes import Grid, Space

CHUNK = 1 << 18


def visible_pairs(
    mask: Expr, space: Space, sizes: Sizes, loads: LoadBounds = unknown, *, b: int = 0, h: int = 0
) -> int | None:
    """The number for one batch and head, in O(queries); None where it has no closed form or reads unknown tensors."""
    count = visible_count(mask, space)
    if count is None:
        return None
    total = 0
    for start in range(0, sizes.n_q, CHUNK):
        rows = np.arange(start, min(start + CHUNK, sizes.n_q))
        symbols = size_symbols(sizes, b, h) | {"q": ints(rows, rows)}
        if isinstance(space, Grid):
            symbols |= {f"q[{i}]": a for i, a in enumerate(coordinate_ranges((rows, rows), space))}
        found = Evaluator(symbols, loads).number(count)
        if not bool(np.all(found.point())):
            return None
        total += int(np.broadcast_to(found.lo, rows.shape).sum())
    return total
