"""Solving a mask for the key: which keys satisfy it for some query of a tile, or for every one?

Recursive on the boolean structure: and intersects, or unites, not is pushed to the comparisons. A comparison becomes
form <= 0, and its one term that holds the key is taken apart from the outside in: division, absolute value, minimum,
maximum, where. What remains is `kv <= f(queries)`, and f's extremes over the tile give the end of an interval. Anything
else is opaque: it restricts nothing for some query, and holds no key for every query.
"""

from __future__ import annotations

from attngen.codegen.analysis import build, regions
from attngen.codegen.analysis.affine import Affine, affine
from attngen.codegen.analysis.extremes import comparisons, condition, extreme, restricted
from attngen.codegen.analysis.frame import KEYS, QUERIES, Frame, depends_on
from attngen.codegen.analysis.regions import Part, Region
from attngen.ir.expr import Const, Expr, Op, Sym, op

DENSE_RESIDUE = 64
"""A residue condition with a modulus up to this size leaves no tile empty, so a table gains nothing."""


Signed = tuple[Expr, bool]
"""A mask, and whether it is negated."""


class Solver:
    """Solves masks in a frame, for every query of the tile or for some query.

    `opaque` is set where a condition was given up that a block table could use, `inexact` where any was.
    """

    def __init__(self, frame: Frame, every: bool) -> None:
        self.frame = frame
        self.every = every
        self.opaque = False
        self.inexact = False
        self._all = regions.everything(frame.end)

    def solve(self, e: Expr, negate: bool = False) -> Region:
        """The keys for which the mask (or its negation) holds."""
        if not depends_on(e, KEYS):
            return regions.guarded(self._all, condition(e, self.every, self.frame, negate))
        match e:
            case Op(name="not", args=(a,)):
                return self.solve(a, not negate)
            case Op(name="and" | "or", args=(a, b)):
                return self._joined((a, negate), (b, negate), conjunction=(e.name == "and") != negate)
            case Op(name="where", args=(c, a, b)):
                return self._choice(c, (a, negate), (b, negate))
            case Op(name="xor", args=(a, b)):
                return self._choice(a, (b, not negate), (b, negate))
            case Op(name="eq" | "ne", args=(a, b)) if a.type == b.type == "bool":
                negate = negate != (e.name == "ne")
                return self._choice(a, (b, negate), (b, not negate))
            case Op(name="to_bool", args=(a,)) if a.type == "bool":
                return self.solve(a, negate)
            case Op(name="to_bool", args=(a,)) if a.type == "int":
                return self._comparison("ne", affine(a), negate)
            case Op(name="lt" | "le" | "gt" | "ge" | "eq" | "ne", args=(a, b)) if "float" not in (a.type, b.type):
                return self._comparison(e.name, affine(a) - affine(b), negate)
            case _:
                return self._unknown()

    def _unknown(self, gain: bool = True) -> Region:
        self.opaque |= gain
        self.inexact = True
        return () if self.every else self._all

    def _intersection(self, a: Region, b: Region) -> Region:
        if len(a) * len(b) > regions.MOST_PARTS:
            self.inexact = True
            return () if self.every else min(a, b, key=len)
        return regions.intersection(a, b)

    def _union(self, a: Region, b: Region) -> Region:
        if len(a) + len(b) > regions.MOST_PARTS:
            self.inexact = True
            return max(a, b, key=len) if self.every else self._all
        return regions.union(a, b)

    def _joined(self, a: Signed, b: Signed, conjunction: bool) -> Region:
        """a and b, or a or b.

        For some query, `condition and b` asks b only of the queries that meet the condition; for every query,
        `condition or b` asks it only of those that do not. A condition inside the other side is brought up first:
        x or (condition and y) => (x or condition) and (x or y), and likewise for some query.
        """
        if conjunction == self.every or self.frame.of_a_row:
            return self._meet_or_join(self.solve(*a), self.solve(*b), conjunction)
        for x, y in ((a, b), (b, a)):
            if not depends_on(x[0], KEYS):
                rest = self._within(x if conjunction else (x[0], not x[1])).solve(*y)
                return self._meet_or_join(self.solve(*x), rest, conjunction)
        for x, y in ((a, b), (b, a)):
            parts = _parts(y, conjunction=not conjunction)
            if len(parts) > 1 and any(not depends_on(p, KEYS) and depends_on(p, QUERIES) for p, _ in parts):
                found = [self._joined(x, part, conjunction) for part in parts]
                return self._meet_or_join(found[0], found[1], not conjunction)
        return self._meet_or_join(self.solve(*a), self.solve(*b), conjunction)

    def _choice(self, c: Expr, a: Signed, b: Signed) -> Region:
        """c ? a : b, written (c and a) or (not c and b) for some query, (not c or a) and (c or b) for every one."""
        conjunction = not self.every or self.frame.of_a_row
        first = self._joined((c, not conjunction), a, conjunction)
        return self._meet_or_join(first, self._joined((c, conjunction), b, conjunction), not conjunction)

    def _meet_or_join(self, a: Region, b: Region, conjunction: bool) -> Region:
        return self._intersection(a, b) if conjunction else self._union(a, b)

    def _within(self, c: Signed) -> Solver:
        """The solver for the queries of the tile that meet a condition."""
        return _Part(self, restricted(*c, self.frame))

    # --- comparisons --------------------------------------------------------------------------------------------------

    def _comparison(self, name: str, difference: Affine, negate: bool) -> Region:
        join, forms = comparisons(name, difference, negate)
        if len(forms) == 2 and self._is_residue(difference):
            return self._unknown(gain=False)
        found = [self._not_positive(form) for form in forms]
        if len(found) == 1:
            return found[0]
        return self._intersection(*found) if join == "and" else self._union(*found)

    def _is_residue(self, difference: Affine) -> bool:
        """x % c == r, where consecutive keys differ in x % c."""
        small = [
            a.args[0]
            for a, _ in difference.terms
            if isinstance(a, Op) and a.name == "mod" and self._is_small(a.args[1]) and depends_on(a, KEYS)
        ]
        others = [a for a, _ in difference.terms if depends_on(a, KEYS)]
        return len(small) == len(others) > 0 and all(
            any(isinstance(s, Sym) and s.name in KEYS for s, _ in affine(x).terms) for x in small
        )

    def _is_small(self, modulus: Expr) -> bool:
        return not isinstance(modulus, Const) or 0 < modulus.value <= DENSE_RESIDUE

    def _not_positive(self, form: Affine) -> Region:
        """form <= 0"""
        with_key = [(a, c) for a, c in form.terms if depends_on(a, KEYS)]
        if len(with_key) > 1:
            expanded = affine(form.expr(), True)
            if expanded != form and sum(depends_on(a, KEYS) for a, _ in expanded.terms) == 1:
                return self._not_positive(expanded)
            return self._unknown()
        if not with_key:
            return regions.guarded(self._all, self._condition(form))
        (atom, c), rest = with_key[0], form.without(with_key[0][0])
        if c > 0:
            return self._at_most(atom, _quotient(-rest, c))
        return self._at_least(atom, -_quotient(-rest, -c))

    def _condition(self, form: Affine) -> Expr:
        return condition(op("le", form.expr(), 0), self.every, self.frame)

    def _at_most(self, e: Expr, bound: Affine) -> Region:
        """e <= bound, for an atom that holds the key."""
        match e:
            case Sym():
                end = extreme(bound, not self.every, self.frame)
                if end is None:
                    return self._unknown()
                return regions.intersection((Part(build.ZERO, (end + 1).expr()),), self._all)
            case Op(name="floordiv", args=(a, b)) if self._is_fixed(b):
                top = _times(bound, b)
                if self.frame.assume_sign(b):
                    return self._not_positive(affine(a) - top - affine(b) + 1)
                return self._not_positive(top + affine(b) + 1 - affine(a))
            case Op(name="mul", args=(a, b)) if self._is_fixed(a) or self._is_fixed(b):
                factor, inner = (a, affine(b)) if self._is_fixed(a) else (b, affine(a))
                self.inexact |= self.frame.of_a_row
                if self.frame.assume_sign(factor):
                    return self._not_positive(inner - _divided(bound, factor))
                return self._not_positive(-_divided(-bound, factor) - inner)
            case Op(name="abs", args=(a,)):
                x = affine(a)
                return self._intersection(self._not_positive(x - bound), self._not_positive(-x - bound))
            case Op(name="minimum" | "maximum" as name, args=(a, b)):
                low, high = self._not_positive(affine(a) - bound), self._not_positive(affine(b) - bound)
                return self._union(low, high) if name == "minimum" else self._intersection(low, high)
            case Op(name="where", args=(c, a, b)):
                low, high = self._not_positive(affine(a) - bound), self._not_positive(affine(b) - bound)
                return self._choice(c, low, high)
            case Op(name="to_int", args=(a,)) if a.type == "bool":
                two, one = self._not_positive(-bound + 1), self._not_positive(-bound)
                return self._union(two, self._intersection(one, self.solve(a, True)))
            case _:
                return self._unknown()

    def _at_least(self, e: Expr, bound: Affine) -> Region:
        """e >= bound, for an atom that holds the key."""
        match e:
            case Sym():
                start = extreme(bound, self.every, self.frame)
                if start is None:
                    return self._unknown()
                return regions.intersection((Part(start.expr(), self.frame.end),), self._all)
            case Op(name="floordiv", args=(a, b)) if self._is_fixed(b):
                start = _times(bound, b)
                return self._not_positive(start - affine(a) if self.frame.assume_sign(b) else affine(a) - start)
            case Op(name="mul", args=(a, b)) if self._is_fixed(a) or self._is_fixed(b):
                factor, inner = (a, affine(b)) if self._is_fixed(a) else (b, affine(a))
                self.inexact |= self.frame.of_a_row
                if self.frame.assume_sign(factor):
                    return self._not_positive(-_divided(-bound, factor) - inner)
                return self._not_positive(inner - _divided(bound, factor))
            case Op(name="abs", args=(a,)):
                x = affine(a)
                return self._union(self._not_positive(bound - x), self._not_positive(bound + x))
            case Op(name="minimum" | "maximum" as name, args=(a, b)):
                low, high = self._not_positive(bound - affine(a)), self._not_positive(bound - affine(b))
                return self._intersection(low, high) if name == "minimum" else self._union(low, high)
            case Op(name="where", args=(c, a, b)):
                low, high = self._not_positive(bound - affine(a)), self._not_positive(bound - affine(b))
                return self._choice(c, low, high)
            case Op(name="to_int", args=(a,)) if a.type == "bool":
                zero, one = self._not_positive(bound), self._not_positive(bound - 1)
                return self._union(zero, self._intersection(one, self.solve(a)))
            case _:
                return self._unknown()

    def _is_fixed(self, e: Expr) -> bool:
        """Whether a divisor or factor is the same for every key and, on a tile, for every query."""
        return not depends_on(e, KEYS if self.frame.of_a_row else KEYS | QUERIES)


class _Part(Solver):
    """A solver for part of a tile, which notes what it gives up with the whole."""

    def __init__(self, whole: Solver, frame: Frame) -> None:
        super().__init__(frame, whole.every)
        self._whole = whole

    def solve(self, e: Expr, negate: bool = False) -> Region:
        found = super().solve(e, negate)
        self._whole.opaque |= self.opaque
        self._whole.inexact |= self.inexact
        return found


def _parts(e: Signed, conjunction: bool) -> list[Signed]:
    """The two sides of a conjunction (or disjunction), or the mask itself."""
    inner, negate = e
    while isinstance(inner, Op) and inner.name == "not":
        inner, negate = inner.args[0], not negate
    if isinstance(inner, Op) and inner.name in ("and", "or") and ((inner.name == "and") != negate) == conjunction:
        return [(side, negate) for side in inner.args]
    return [e]


def _quotient(form: Affine, by: int) -> Affine:
    """form // by"""
    return form if by == 1 else affine(op("floordiv", form.expr(), by))


def _divided(form: Affine, by: Expr) -> Affine:
    return affine(op("floordiv", form.expr(), by))


def _times(form: Affine, factor: Expr) -> Affine:
    return affine(op("mul", form.expr(), factor))
