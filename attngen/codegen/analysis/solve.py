"""Solving a mask for the key: which keys satisfy it for some query of a tile, or for every one?

Recursive on the boolean structure: and intersects, or unites, not is pushed to the comparisons. A comparison becomes
form <= 0, and its one term that holds the key is taken apart from the outside in: division, absolute value, minimum,
maximum, where. What remains is `kv <= f(queries)`, and f's extremes over the tile give the end of an interval. Anything
else is opaque: it restricts nothing for some query, and holds no key for every query.
"""

from __future__ import annotations

from functools import reduce

from attngen.codegen.analysis import build, regions
from attngen.codegen.analysis.affine import Affine, affine
from attngen.codegen.analysis.extremes import comparisons, condition, extreme, restricted
from attngen.codegen.analysis.frame import KEYS, QUERIES, Frame, depends_on
from attngen.codegen.analysis.regions import Part, Region
from attngen.ir.expr import Const, Expr, Op, Sym, op

DENSE_RESIDUE = 64
"""A residue condition with a modulus up to this size leaves no tile empty, so a table gains nothing."""

BLOCK = 16
"""A condition on blocks of so many keys or more decides tiles as a whole, so a table gains much."""


Signed = tuple[Expr, bool]
"""A mask, and whether it is negated."""


class Solver:
    """Solves masks in a frame, for every query of the tile or for some query.

    `opaque` is set where a condition was given up that a block table could use, `blocks` where it is on blocks of keys,
    `inexact` where any was.
    """

    def __init__(self, frame: Frame, every: bool) -> None:
        self.frame = frame
        self.every = every
        self.opaque = False
        self.blocks = False
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
                return self._joined([(a, negate), (b, negate)], (e.name == "and") != negate)
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
                return self._unknown(e)

    def _unknown(self, e: Expr, gain: bool = True) -> Region:
        """The region of a condition that is given up."""
        self.opaque |= gain
        self.blocks |= gain and _is_on_blocks(e)
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

    def _joined(self, parts: list[Signed], conjunction: bool) -> Region:
        """The conjunction or disjunction of masks.

        For some query, `condition and x` asks x only of the queries that meet the condition; for every query,
        `condition or x` asks it only of those that do not. A condition inside x is brought up first:
        x or (condition and y) => (x or condition) and (x or y), and likewise for some query.
        """
        parts = [p for part in parts for p in _parts(part, conjunction)]
        if conjunction != self.every and not self.frame.of_a_row:
            conditions = [p for p in parts if not depends_on(p[0], KEYS)]
            others = [p for p in parts if depends_on(p[0], KEYS)]
            if conditions and others:
                rest = self._within(conditions, conjunction)._joined(others, conjunction)
                return self._merged([*(self.solve(*c) for c in conditions), rest], conjunction)
            for i, part in enumerate(parts):
                inside = _parts(part, not conjunction)
                if len(parts) > 1 and len(inside) > 1 and any(_is_condition(p) for p, _ in inside):
                    rest_of = [*parts[:i], *parts[i + 1 :]]
                    return self._merged([self._joined([p, *rest_of], conjunction) for p in inside], not conjunction)
        return self._merged([self.solve(*p) for p in parts], conjunction)

    def _merged(self, found: list[Region], conjunction: bool) -> Region:
        return reduce(self._intersection if conjunction else self._union, found)

    def _within(self, conditions: list[Signed], conjunction: bool) -> Solver:
        """The solver for the queries of the tile that meet all conditions (or fail them, in a disjunction)."""
        frame = self.frame
        for c, negate in conditions:
            frame = restricted(c, negate if conjunction else not negate, frame)
        return _Part(self, frame)

    def _choice(self, c: Expr, a: Signed, b: Signed) -> Region:
        """c ? a : b, written (c and a) or (not c and b) for some query, (not c or a) and (c or b) for every one."""
        conjunction = not self.every or self.frame.of_a_row
        yes, no = (c, not conjunction), (c, conjunction)
        sides = [self._joined([yes, a], conjunction), self._joined([no, b], conjunction)]
        return self._merged(sides, not conjunction)

    # --- comparisons --------------------------------------------------------------------------------------------------

    def _comparison(self, name: str, difference: Affine, negate: bool) -> Region:
        join, forms = comparisons(name, difference, negate)
        if len(forms) == 2 and self._is_residue(difference):
            return self._unknown(difference.expr(), gain=False)
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
            return self._unknown(form.expr())
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
                    return self._unknown(e)
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
                return self._choice(c, *((op("le", x, bound.expr()), False) for x in (a, b)))
            case Op(name="to_int", args=(a,)) if a.type == "bool":
                two, one = self._not_positive(-bound + 1), self._not_positive(-bound)
                return self._union(two, self._intersection(one, self.solve(a, True)))
            case _:
                return self._unknown(e)

    def _at_least(self, e: Expr, bound: Affine) -> Region:
        """e >= bound, for an atom that holds the key."""
        match e:
            case Sym():
                start = extreme(bound, self.every, self.frame)
                if start is None:
                    return self._unknown(e)
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
                return self._choice(c, *((op("ge", x, bound.expr()), False) for x in (a, b)))
            case Op(name="to_int", args=(a,)) if a.type == "bool":
                zero, one = self._not_positive(bound), self._not_positive(bound - 1)
                return self._union(zero, self._intersection(one, self.solve(a)))
            case _:
                return self._unknown(e)

    def _is_fixed(self, e: Expr) -> bool:
        """Whether a divisor or factor is the same for every key and, on a tile, for every query."""
        return not depends_on(e, KEYS if self.frame.of_a_row else KEYS | QUERIES)


class _Part(Solver):
    """A solver for part of a tile, which notes what it gives up with the whole."""

    def __init__(self, whole: Solver, frame: Frame) -> None:
        super().__init__(frame, whole.every)
        self._whole = whole

    def _unknown(self, e: Expr, gain: bool = True) -> Region:
        self._whole._unknown(e, gain)
        return super()._unknown(e, gain)


def _is_on_blocks(e: Expr) -> bool:
    """Whether keys and queries occur only as the numbers of blocks that are not small."""
    match e:
        case Op(name="floordiv", args=(_, Const(value=size))) if size >= BLOCK:
            return True
        case Op(name="shr", args=(_, Const(value=bits))) if 2**bits >= BLOCK:
            return True
        case Op(args=args) if e.name != "uniform":
            return all(map(_is_on_blocks, args))
        case Sym(name=name):
            return name not in KEYS | QUERIES
        case _:
            return not depends_on(e, KEYS | QUERIES)


def _is_condition(e: Expr) -> bool:
    """Whether a mask depends on the query and not on the key."""
    return depends_on(e, QUERIES) and not depends_on(e, KEYS)


def _parts(e: Signed, conjunction: bool) -> list[Signed]:
    """The masks that a conjunction (or disjunction) joins, or the mask itself."""
    inner, negate = e
    while isinstance(inner, Op) and inner.name == "not":
        inner, negate = inner.args[0], not negate
    if isinstance(inner, Op) and inner.name in ("and", "or") and ((inner.name == "and") != negate) == conjunction:
        return [part for side in inner.args for part in _parts((side, negate), conjunction)]
    return [(inner, negate)]


def _quotient(form: Affine, by: int) -> Affine:
    """form // by"""
    return form if by == 1 else affine(op("floordiv", form.expr(), by))


def _divided(form: Affine, by: Expr) -> Affine:
    return affine(op("floordiv", form.expr(), by))


def _times(form: Affine, factor: Expr) -> Affine:
    return affine(op("mul", form.expr(), factor))
