"""Expressions at numbers, in float64: for counterexamples, never for proofs.

What an expression reads beside its variables (captured tensors and numbers, heads, sizes) is pinned to a few settings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, cycle
from typing import TYPE_CHECKING

from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import Const, Expr, Load, Op, Sym, const, load, op, postorder, sym, symbols
from attngen.ir.text_expr import expr_text

if TYPE_CHECKING:
    from torch import Tensor

SIZES: tuple[Mapping[str, int], ...] = (
    {"b": 1, "h": 2, "q": 3, "n_q": 7, "n_k": 9, "n_b": 2, "n_h": 4, "n_visible": 5, "count": 5, "dim": 1},
    {"b": 0, "h": 0, "q": 0, "n_q": 40, "n_k": 33, "n_b": 1, "n_h": 1, "n_visible": 1, "count": 1, "dim": 0},
)
POSITIVE = ((0.75, 1.5, 0.25, 2.25), (2.5, 0.5, 1.25, 3.0))
SIGNED = ((-1.25, 0.5, -0.25, 1.75), (0.5, -2.0, 1.5, -0.75))
MOST_LITERALS = 4


COUNTED = frozenset(sym(name) for name in ("n_q", "n_k", "n_b", "n_h", "n_visible", "count"))
"""At least 1 in a row that sees a key."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Constants for what an expression reads beside its variables."""

    values: Mapping[Expr, Const]

    def __str__(self) -> str:
        """As the end of a sentence: " with w[h] = -1.25", or nothing."""
        found = [f"{expr_text(e)} = {c.value:g}" for e, c in self.values.items()]
        return f" with {', '.join(found)}" if found else ""


def settings(
    exprs: Iterable[Expr],
    variables: Iterable[str],
    numbers: Mapping[str, float] | None = None,
    *,
    signed: bool = True,
) -> tuple[Setting, ...]:
    """Settings for the expressions. Inputs in `numbers` have that value; others vary, with both signs or without.

    None at all where a load moves with a variable: what a table holds is not known.
    """
    roots, free = tuple(exprs), frozenset(variables)
    leaves = _leaves(roots)
    if any(isinstance(n, Load) and symbols(n) & free for n in leaves):
        return ()
    given = numbers or {}
    known: dict[Expr, Const] = {
        n: _typed(n, given[n.tensor]) for n in leaves if isinstance(n, Load) and n.tensor in given
    }
    open_ = [n for n in leaves if n not in known and not (isinstance(n, Sym) and n.name in free)]
    if not open_:
        return (Setting(known),)
    ways = (*POSITIVE, *SIGNED) if signed else POSITIVE
    drawn = [_drawn(open_, floats, i) for i, floats in enumerate(ways)]
    # Conditions compare with literals: both sides of each are met.
    for c in literals(roots)[:MOST_LITERALS]:
        drawn += [made for d in (1, -1) if (made := _beside(open_, c, d, signed)) is not None]
    return tuple(Setting({**known, **made}) for made in drawn)


def literals(roots: Iterable[Expr]) -> list[float]:
    """The finite numbers that stand in the expressions."""
    found = {float(n.value) for n in postorder(*roots) if isinstance(n, Const) and n.type != "bool"}
    return sorted(c for c in found if math.isfinite(c))


def _beside(leaves: list[Expr], literal: float, direction: int, signed: bool) -> dict[Expr, Const] | None:
    """Integers one beside the literal, floats half of that; None where that is nowhere."""
    made: dict[Expr, Const] = {}
    for leaf in leaves:
        value = literal + direction * (0.5 if leaf.type == "float" else 1)
        if leaf.type == "int" and (value != int(value) or not 0 <= value < 2**31):
            return None
        if leaf.type == "float" and value <= 0 and not signed:
            return None
        made[leaf] = _typed(leaf, direction > 0 if leaf.type == "bool" else max(value, int(leaf in COUNTED)))
    return made


def _leaves(roots: Sequence[Expr]) -> list[Expr]:
    """Loads and symbols. A load is one as a whole: its indices are none unless they are met elsewhere, too."""
    found: dict[Expr, None] = {}
    seen: set[int] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Load | Sym):
            found[node] = None
        else:
            stack.extend(node.children)
    return list(found)


def _drawn(leaves: list[Expr], floats: Sequence[float], i: int) -> dict[Expr, Const]:
    each, whole = cycle(floats), count(1)
    made: dict[Expr, Const] = {}
    for leaf in leaves:
        if isinstance(leaf, Sym):
            made[leaf] = _typed(leaf, SIZES[i % 2].get(leaf.name, next(each)))
        elif leaf.type == "bool":
            made[leaf] = const(i % 2 == 0)
        else:
            made[leaf] = const(next(whole) + i) if leaf.type == "int" else const(next(each))
    return made


def _typed(leaf: Expr, value: float) -> Const:
    return const({"bool": bool, "int": int, "float": float}[leaf.type](value))


def pinned(expr: Expr, setting: Setting) -> Expr:
    """The expression with the constants in place."""
    done: dict[int, Expr] = {}
    for node in postorder(expr):
        new: Expr = node
        if node in setting.values:
            new = setting.values[node]
        elif isinstance(node, Op):
            new = op(node.name, *(done[id(a)] for a in node.args), source=node.source)
        elif isinstance(node, Load):
            new = load(node.tensor, tuple(done[id(i)] for i in node.indices), node.type, node.source)
        done[id(node)] = new
    return done[id(expr)]


def values(expr: Expr, **points: Tensor) -> Tensor:
    """The expression at points of its variables, in float64."""
    import torch

    at = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in points.items()}
    found = evaluate(expr, Environment(at)).double()
    # An expression may read none of its variables.
    return found + sum(torch.zeros_like(value) for value in at.values())


def shown(value: float) -> str:
    """A number in a message."""
    return f"{value + 0.0:.6g}"
