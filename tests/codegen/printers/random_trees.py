"""Random expressions whose values are comparable across precisions: small literals, any operator."""

from __future__ import annotations

import random

from attngen.ir.expr import SYMBOLS, Expr, const, op, sym
from attngen.ir.ops import Type
from tests.strategies import UNORDINARY, signatures

ROW = ("q", "h", "m")
PAIR = (*ROW, "kv", "score")
"""Symbols that are uniform over the lanes, and all."""
LITERALS: dict[Type, tuple[bool | int | float, ...]] = {
    "bool": (True, False),
    "int": (0, 1, 2, 3, -1, -2, 5, 7, 16),
    "float": (0.0, -0.0, 0.5, 1.0, -2.0, 0.125, 3.0),
}


def tree(rng: random.Random, kind: Type, depth: int, symbols: tuple[str, ...] = PAIR) -> Expr:
    """An expression of the kind, at most `depth` operators high; some nodes are shared."""
    made: dict[Type, list[Expr]] = {"bool": [], "int": [], "float": []}

    def grow(wanted: Type, levels: int) -> Expr:
        names = [name for name in symbols if SYMBOLS[name] == wanted]
        if made[wanted] and rng.random() < 0.15:
            return rng.choice(made[wanted])
        if levels <= 0 or rng.random() < 0.1:
            return sym(rng.choice(names)) if names and rng.random() < 0.75 else const(rng.choice(LITERALS[wanted]))
        name, types = rng.choice(signatures(wanted, UNORDINARY))
        node = op(name, *(grow(t, levels - 1) for t in types))
        made[wanted].append(node)
        return node

    return grow(kind, depth)


def trees(seed: int, count: int, symbols: tuple[str, ...] = PAIR) -> list[Expr]:
    """`count` expressions of all three types."""
    rng = random.Random(seed)
    kinds: tuple[Type, ...] = ("float", "int", "bool")
    return [tree(rng, kinds[i % 3], 1 + i % 4, symbols) for i in range(count)]
