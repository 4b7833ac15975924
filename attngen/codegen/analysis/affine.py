"""The affine normal form of an integer expression: constant + sum of coefficient * atom.

Terms that two expressions share cancel in it, which makes `q - kv` on a tile exact. An atom is a symbol, a load, or an
operator that is not affine, its arguments in normal form themselves. `x % c` is an atom of its own, or, with
`expand`, the sum x - c * (x // c): each form decides comparisons that the other does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from attngen.ir.expr import Const, Expr, Op, const, op

MOST_PRODUCTS = 6
LARGEST_SHIFT = 62


@dataclass(frozen=True, slots=True)
class Affine:
    """constant + sum of coefficient * atom; no coefficient is 0 and no atom occurs twice."""

    terms: tuple[tuple[Expr, int], ...]
    constant: int

    def __add__(self, other: Affine | int) -> Affine:
        if isinstance(other, int):
            return Affine(self.terms, self.constant + other)
        total = dict(self.terms)
        for atom, coefficient in other.terms:
            total[atom] = total.get(atom, 0) + coefficient
        return Affine(tuple((a, c) for a, c in total.items() if c), self.constant + other.constant)

    def __sub__(self, other: Affine | int) -> Affine:
        return self + (-other if isinstance(other, int) else other * -1)

    def __mul__(self, factor: int) -> Affine:
        if factor == 0:
            return Affine((), 0)
        return Affine(tuple((a, c * factor) for a, c in self.terms), self.constant * factor)

    def __neg__(self) -> Affine:
        return self * -1

    def coefficient(self, atom: Expr) -> int:
        """The coefficient of an atom; 0 where it does not occur."""
        return next((c for a, c in self.terms if a == atom), 0)

    def without(self, atom: Expr) -> Affine:
        """The form less the term of an atom."""
        return Affine(tuple(t for t in self.terms if t[0] != atom), self.constant)

    def expr(self) -> Expr:
        """The form as an expression: positive terms first, the constant last."""
        return _render(self)


def atom_form(e: Expr) -> Affine:
    """An atom as a form."""
    return Affine(((e, 1),), 0)


@lru_cache(maxsize=16384)
def _render(form: Affine) -> Expr:
    total: Expr | None = None
    for atom, c in sorted(form.terms, key=lambda term: term[1] < 0):
        size = atom if abs(c) == 1 else op("mul", atom, abs(c))
        if total is None:
            total = size if c > 0 else op("neg", size) if form.constant == 0 else op("sub", form.constant, size)
            used = c < 0
        else:
            total = op("add" if c > 0 else "sub", total, size)
    if total is None:
        return const(form.constant)
    if used or form.constant == 0:
        return total
    return op("add" if form.constant > 0 else "sub", total, abs(form.constant))


@lru_cache(maxsize=16384)
def affine(e: Expr, expand: bool = False) -> Affine:
    """The normal form of an int expression, or of a bool one counted as 0 or 1."""
    match e:
        case Const(value=value):
            return Affine((), int(value))
        case Op(type="bool"):
            return atom_form(op("to_int", e))
        case Op():
            return _operator(e, expand)
        case _:
            return atom_form(e if e.type != "bool" else op("to_int", e))


def _operator(e: Op, expand: bool) -> Affine:
    if any(a.type == "float" for a in e.args) and e.name != "where":
        return atom_form(e)
    if e.name == "to_int":
        inner = e.args[0]
        return affine(inner, expand) if inner.type == "int" or isinstance(inner, Const) else atom_form(e)
    if e.name == "where":
        return _where(e, expand)
    forms = [affine(a, expand) for a in e.args]
    constants = [f.constant for f in forms if not f.terms]
    match e.name, forms:
        case "add", [a, b]:
            return a + b
        case "sub", [a, b]:
            return a - b
        case "neg", [a]:
            return -a
        case "bit_not", [a]:
            return -a - 1
        case "mul", [a, b]:
            return _product(a, b)
        case "floordiv", [a, b]:
            return _floordiv(a, b)
        case "mod", [a, b]:
            return _mod(a, b, expand)
        case "shl", [a, b] if not b.terms and 0 <= b.constant <= LARGEST_SHIFT:
            return a * (1 << b.constant)
        case "shr", [a, b] if not b.terms and 0 <= b.constant <= LARGEST_SHIFT:
            return _floordiv(a, Affine((), 1 << b.constant))
        case "bit_and", [a, b] if len(constants) == 1:
            return _bit_and(e, *((b, a) if not a.terms else (a, b)), expand)
        case "pow", [a, b] if not b.terms and b.constant in (0, 1, 2):
            return (Affine((), 1), a, _product(a, a))[b.constant]
        case "relu", [a]:
            return _extremum("maximum", a, Affine((), 0))
        case (("minimum" | "maximum"), [a, b]):
            return _extremum(e.name, a, b)
        case "abs", [a]:
            return _absolute(a)
        case "sign", [a] if not a.terms:
            return Affine((), (a.constant > 0) - (a.constant < 0))
        case _:
            return atom_form(op(e.name, *(f.expr() for f in forms)))


def _where(e: Op, expand: bool) -> Affine:
    condition, a, b = e.args[0], affine(e.args[1], expand), affine(e.args[2], expand)
    if isinstance(condition, Const):
        return a if condition.value else b
    return a if a == b else atom_form(op("where", condition, a.expr(), b.expr()))


def _product(a: Affine, b: Affine) -> Affine:
    if not a.terms:
        return b * a.constant
    if not b.terms:
        return a * b.constant
    if len(a.terms) * len(b.terms) > MOST_PRODUCTS:
        return atom_form(op("mul", *sorted((a.expr(), b.expr()), key=repr)))
    total = Affine(a.terms, 0) * b.constant + Affine(b.terms, 0) * a.constant + a.constant * b.constant
    for x, cx in a.terms:
        for y, cy in b.terms:
            total = total + atom_form(op("mul", *sorted((x, y), key=repr))) * (cx * cy)
    return total


def _floordiv(a: Affine, b: Affine) -> Affine:
    """(c * y + r) // c = y + r // c, and (x // c) // d = x // (c * d)."""
    divisor = b.constant
    if b.terms or divisor == 0:
        return atom_form(op("floordiv", a.expr(), b.expr()))
    if divisor < 0:
        a, divisor = -a, -divisor
    whole = Affine(tuple((t, c // divisor) for t, c in a.terms if c % divisor == 0), a.constant // divisor)
    rest = Affine(tuple((t, c) for t, c in a.terms if c % divisor), a.constant % divisor)
    if not rest.terms:
        return whole
    match rest.terms:
        case ((Op(name="floordiv", args=(inner, Const(value=int(by)))), 1),) if rest.constant == 0 and by > 0:
            return whole + _floordiv(affine(inner), Affine((), by * divisor))
    return whole + atom_form(op("floordiv", rest.expr(), divisor))


def _mod(a: Affine, b: Affine, expand: bool) -> Affine:
    modulus = b.constant
    if b.terms or modulus == 0:
        if expand:
            return a - _product(b, _floordiv(a, b))
        return atom_form(op("mod", a.expr(), b.expr()))
    if modulus < 0:
        return -_mod(-a, -b, expand)
    if expand:
        return a - _floordiv(a, b) * modulus
    rest = Affine(tuple((t, c % modulus) for t, c in a.terms if c % modulus), a.constant % modulus)
    return atom_form(op("mod", rest.expr(), modulus)) if rest.terms else rest


def _bit_and(e: Op, a: Affine, mask: Affine, expand: bool) -> Affine:
    bits = mask.constant
    if bits >= 0 and bits & (bits + 1) == 0:
        return _mod(a, Affine((), bits + 1), expand)
    if bits < 0 and -bits & (-bits - 1) == 0:
        return a - _mod(a, Affine((), -bits), expand)
    return atom_form(op("bit_and", a.expr(), bits))


def _extremum(name: str, a: Affine, b: Affine) -> Affine:
    difference = a - b
    if not difference.terms:
        return a if (difference.constant <= 0) == (name == "minimum") else b
    return atom_form(op(name, *sorted((a.expr(), b.expr()), key=repr)))


def _absolute(a: Affine) -> Affine:
    if not a.terms:
        return Affine((), abs(a.constant))
    leading = min(a.terms, key=lambda term: repr(term[0]))
    return atom_form(op("abs", (a if leading[1] > 0 else -a).expr()))
