"""Small proofs about loop bounds: is one expression at most another, whatever the lengths are?

Known facts: 0 <= q_first <= q_last <= n_q - 1 (in a row: 0 <= q <= n_q - 1), every size, b, h and key position is >= 0,
and y - (c - 1) <= c * (y // c) <= y. Nothing is known about loads.
"""

from __future__ import annotations

from functools import lru_cache

from attngen.codegen.analysis.affine import Affine, affine, atom_form
from attngen.ir.expr import SYMBOLS, Const, Expr, Op, Sym, sym

CASES = 5
"""How many minimum, maximum and where atoms are split into their cases."""

AXES = ("", "[0]", "[1]", "[2]")
WIDTH_OF_TILE = {sym(f"q_last{axis}"): sym(f"q_first{axis}") for axis in AXES}


def at_most(a: Expr, b: Expr) -> bool:
    """Whether a <= b is proven."""
    return a == b or is_nonnegative(affine(b) - affine(a))


def is_nonnegative(form: Affine) -> bool:
    """Whether form >= 0 is proven."""
    least = lower_bound(form)
    return least is not None and least >= 0


@lru_cache(maxsize=16384)
def lower_bound(form: Affine, cases: int = CASES) -> int | None:
    """A number that the form never goes below, or None."""
    if not form.terms:
        return form.constant
    if cases:
        for atom, c in form.terms:
            match atom:
                case Op(name="minimum" | "maximum" as name, args=(a, b)):
                    found = [lower_bound(_replaced(form, atom, c, x), cases - 1) for x in (a, b)]
                    return _any(found) if (name == "maximum") == (c > 0) else _all(found)
                case Op(name="where", args=(_, a, b)):
                    return _all([lower_bound(_replaced(form, atom, c, x), cases - 1) for x in (a, b)])
                case Op(name="floordiv", args=(a, Const(value=int(by)))) if by > 0 and c % by == 0:
                    rest = form.without(atom) + affine(a) * (c // by)
                    relaxed = lower_bound(rest - (by - 1) * (c // by) if c > 0 else rest, cases - 1)
                    return _any([relaxed, _linear(form)])
    return _linear(form)


def _replaced(form: Affine, atom: Expr, c: int, by: Expr) -> Affine:
    return form.without(atom) + affine(by) * c


def _any(bounds: list[int | None]) -> int | None:
    return max((b for b in bounds if b is not None), default=None)


def _all(bounds: list[int | None]) -> int | None:
    known = [b for b in bounds if b is not None]
    return min(known) if len(known) == len(bounds) else None


def _linear(form: Affine) -> int | None:
    """Every atom at its own end; n_q and the last query are written through what they exceed first."""
    n_q, row = form.coefficient(sym("n_q")), sym("q" if form.coefficient(sym("q")) else "q_last")
    if n_q > 0:
        form = form.without(sym("n_q")) + (atom_form(row) + 1) * n_q
    for last, first in WIDTH_OF_TILE.items():
        c = form.coefficient(last)
        if c > 0:
            form = form.without(last) + atom_form(first) * c
    total = form.constant
    for atom, c in form.terms:
        low, high = _range(atom)
        end = low if c > 0 else high
        if end is None:
            return None
        total += c * end
    return total


def _range(atom: Expr) -> tuple[int | None, int | None]:
    match atom:
        case Sym(name=name):
            return (0, None) if SYMBOLS[name] == "int" else (None, None)
        case Op(name="abs"):
            return 0, None
        case Op(name="mod", args=(_, Const(value=int(by)))) if by > 0:
            return 0, by - 1
        case Op(name="to_int", args=(a,)) if a.type == "bool":
            return 0, 1
        case Op(name="floordiv", args=(a, Const(value=int(by)))) if by > 0:
            low = lower_bound(affine(a))
            return None if low is None else low // by, None
        case _:
            return None, None
