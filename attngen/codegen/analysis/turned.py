"""A mask seen from the keys: queries and keys change places, so that key tiles ask which queries see them."""

from __future__ import annotations

from functools import lru_cache

from attngen.codegen.analysis.ranges import Ranges, closed_form
from attngen.ir.expr import Expr, substitute, sym
from attngen.ir.nodes import Space

_PAIRS = (("q", "kv"), ("n_q", "n_k"), *((f"q[{i}]", f"kv[{i}]") for i in range(3)))
_OTHER = {a: sym(b) for one, two in _PAIRS for a, b in ((one, two), (two, one))}


def turned(mask: Expr) -> Expr:
    """The mask with the names of queries and keys, and of their numbers, exchanged."""
    return substitute(mask, dict(_OTHER))


@lru_cache(maxsize=512)
def turned_ranges(mask: Expr, space: Space) -> Ranges | None:
    """The query ranges of a key tile, or None where a block table gives a tighter schedule.

    They are written over q_first and q_last, which are the first and last key of the tile, and over n_k, the number of
    queries.
    """
    return closed_form(turned(mask), space)
