"""Row safety: does every row see a key? Proven by a witness (the row's own position, the first key, the last key).

Rows proven non-empty need no guard against an empty sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attngen.codegen.analysis.affine import affine, atom_form
from attngen.codegen.analysis.evaluate import Evaluator
from attngen.codegen.analysis.interval import UNBOUNDED, Bools, Interval, Ints, ints
from attngen.codegen.analysis.loads import LoadBounds, unknown
from attngen.codegen.analysis.prove import is_nonnegative
from attngen.codegen.analysis.ranges import SEQUENCE, flattened_mask, visible_count, whole_mask
from attngen.codegen.analysis.tiles import Sizes, coordinate_ranges, size_symbols
from attngen.ir.expr import Expr, const, op, substitute, sym
from attngen.ir.nodes import Grid, Space

CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about lengths that are not: both are at least 1; `equal`: n_q == n_k."""

    equal: bool = False


UNEQUAL = Facts()


def witnesses(space: Space) -> tuple[Expr, ...]:
    """Keys worth trying for a row."""
    q, n_q, n_k = sym("q"), sym("n_q"), sym("n_k")
    return q, op("add", q, op("sub", n_k, n_q)), const(0), op("sub", n_k, 1)


def rows_are_safe(mask: Expr, space: Space = SEQUENCE, facts: Facts = UNEQUAL) -> bool:
    """Whether every row is proven to see a key, whatever the lengths, scalars and tensors are."""
    mask = flattened_mask(whole_mask(mask, space), space)
    equal = facts.equal or isinstance(space, Grid)
    sizes = {"n_k": sym("n_q")} if equal else {}
    count = visible_count(mask)
    if count is not None and is_nonnegative(affine(substitute(count, sizes)) - 1):
        return True
    # Lengths are n_q = 1 + last query, n_k = 1 + ...; q <= n_q - 1 is the assumption that ties them.
    inside = atom_form(sym("n_q")) - atom_form(sym("q")) - 1
    for key in witnesses(space):
        key = substitute(key, sizes)
        values = Evaluator(_any_lengths(), unknown, (inside,))
        end = substitute(sym("n_k"), sizes)
        legal = op("and", op("ge", key, 0), op("lt", key, end))
        seen = substitute(mask, {**sizes, "kv": key})
        if not bool(values.truth(legal).may_be_false) and not bool(values.truth(seen).may_be_false):
            return True
    return False


def _any_lengths() -> dict[str, Interval]:
    natural, position = ints(1, UNBOUNDED), ints(0, UNBOUNDED)
    return {"n_q": natural, "n_k": natural, "n_b": natural, "n_h": natural, "q": position, "b": position, "h": position}


def first_unsafe_row(mask: Expr, space: Space, sizes: Sizes, loads: LoadBounds = unknown) -> int | None:
    """The first row that is not proven to see a key for every batch and head, or None: every row is.

    Each row is tried with each witness, and with the closed form of its number of visible keys: O(n_q).
    """
    mask = whole_mask(mask, space)
    count = visible_count(mask, space)
    for start in range(0, sizes.n_q, CHUNK):
        q = np.arange(start, min(start + CHUNK, sizes.n_q))
        safe = _safe(mask, count, space, sizes, loads, q)
        if not safe.all():
            return int(q[np.argmin(safe)])
    return None


def _safe(mask: Expr, count: Expr | None, space: Space, sizes: Sizes, loads: LoadBounds, q: Ints) -> Bools:
    safe = np.zeros(len(q), bool)
    symbols = size_symbols(sizes) | {"q": ints(q, q)}
    if isinstance(space, Grid):
        symbols |= {f"q[{i}]": a for i, a in enumerate(coordinate_ranges((q, q), space))}
    if count is not None:
        safe |= np.broadcast_to(Evaluator(symbols, loads).number(count).lo >= 1, safe.shape)
    for key in witnesses(space):
        position = Evaluator(symbols, loads).number(key)
        kv = np.clip(position.lo, 0, max(sizes.n_k - 1, 0))
        at = symbols | {"kv": ints(kv, kv)}
        if isinstance(space, Grid):
            at |= {f"kv[{i}]": a for i, a in enumerate(coordinate_ranges((kv, kv), space))}
        safe |= ~np.broadcast_to(Evaluator(at, loads).truth(mask).may_be_false, safe.shape) & (sizes.n_k > 0)
    return safe
