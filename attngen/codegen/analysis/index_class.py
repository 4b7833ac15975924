"""Index classes: how an indexed tensor varies over the tile of scores.

They decide what is hoisted and how gradients sum up without atomics.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from attngen.codegen.analysis.affine import affine
from attngen.codegen.analysis.frame import KEYS, QUERIES, depends_on
from attngen.ir.expr import Expr, Load, Op, Sym, loads, symbols

PAIRS = (("q", "kv"), *((f"q[{i}]", f"kv[{i}]") for i in range(3)))


class IndexClass(IntEnum):
    """From the simplest to the hardest. The classes of several indices combine to the harder, or to FULL_PAIR.

    SCALAR      the same everywhere
    PER_HEAD    depends on batch and head only
    PER_QUERY   depends on the query: hoisted per row, its gradient sums over keys
    PER_KEY     depends on the key: its gradient sums over queries
    RELATIVE    q - kv + something of the head: its gradient sums along diagonals
    BUCKETED    a function of q - kv through other operators or tables
    FULL_PAIR   depends on query and key in any other way: one entry per pair
    IRREGULAR   an index is read from data by query or key
    """

    SCALAR = 0
    PER_HEAD = 1
    PER_QUERY = 2
    PER_KEY = 3
    RELATIVE = 4
    BUCKETED = 5
    FULL_PAIR = 6
    IRREGULAR = 7


@dataclass(frozen=True, slots=True)
class Access:
    """A load with the class of each index and of the whole."""

    load: Load
    indices: tuple[IndexClass, ...]
    overall: IndexClass


def accesses(*exprs: Expr) -> tuple[Access, ...]:
    """The accesses of all loads below the expressions, in order of evaluation."""
    found = []
    for load in loads(*exprs):
        classes = tuple(index_class(i) for i in load.indices)
        found.append(Access(load, classes, _overall(load, classes)))
    return tuple(found)


def index_class(index: Expr) -> IndexClass:
    """The class of one index."""
    by_query, by_key = depends_on(index, QUERIES), depends_on(index, KEYS)
    if not by_query and not by_key:
        return IndexClass.PER_HEAD if symbols(index) & {"b", "h"} else IndexClass.SCALAR
    relative = any(_is_relative(index, *pair) for pair in PAIRS)
    if any(depends_on(i, QUERIES | KEYS) for load in loads(index) for i in load.indices) and not relative:
        return IndexClass.IRREGULAR
    if not (by_query and by_key):
        return IndexClass.PER_QUERY if by_query else IndexClass.PER_KEY
    if not relative:
        return IndexClass.FULL_PAIR
    terms = [(atom, c) for atom, c in affine(index).terms if depends_on(atom, QUERIES | KEYS)]
    direct = all(isinstance(atom, Sym) and abs(c) == 1 for atom, c in terms)
    return IndexClass.RELATIVE if direct else IndexClass.BUCKETED


def _is_relative(e: Expr, q: str, kv: str) -> bool:
    """Whether an expression is a function of q - kv and of what does not depend on the position."""
    if not depends_on(e, QUERIES | KEYS):
        return True
    if isinstance(e, Sym):
        return False
    if e.type == "float" or isinstance(e, Load) or e.type == "bool":
        return all(_is_relative(child, q, kv) for child in e.children)
    form = affine(e)
    if form.terms == ((e, 1),):
        return all(_is_relative(child, q, kv) for child in e.children)
    balance = 0
    for atom, c in form.terms:
        match atom:
            case Sym(name=name) if name in (q, kv):
                balance += c
            case Sym(name=name) if name in QUERIES | KEYS:
                return False
            case Op() | Load() if not _is_relative(atom, q, kv):
                return False
    return balance == 0


def _overall(load: Load, classes: tuple[IndexClass, ...]) -> IndexClass:
    """The class of the whole access: a pair of positions in separate indices makes one entry per pair."""
    moving = [c for c in classes if c > IndexClass.PER_HEAD]
    if not moving:
        return max(classes, default=IndexClass.SCALAR)
    if IndexClass.IRREGULAR in moving:
        return IndexClass.IRREGULAR
    if len(set(moving)) == 1:
        return moving[0]
    if set(moving) == {IndexClass.RELATIVE, IndexClass.BUCKETED}:
        return IndexClass.BUCKETED
    return IndexClass.FULL_PAIR
