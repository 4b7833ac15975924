"""Proofs by sympy of what structure does not show: the shift law, invariance of results, signs.

The shift by t is a flow: m grows at rate 1, sums shrink at rate k. What stays on every line of the flow has the
derivative 0 along it, in every case of the expression; where a line can lead from one case into another one, both must
be one formula. Functions here raise `Undecided` where they find no proof, and are never wrong where they do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from itertools import combinations, pairwise
from typing import Any

import sympy as sp

from attngen.codegen.derive.shift import ANCHOR, Motion, motion, same_rate, state
from attngen.codegen.derive.symbolic import Case, Undecided, Unknowns, cases
from attngen.ir.expr import Expr, Op, op, substitute, sym
from attngen.ir.signs import Signs
from attngen.ir.span import Span, above, at_least, exactly
from attngen.ir.span_ops import OPPOSITE

NEGATIVE, ZERO, POSITIVE = Span(high=0.0), exactly(0.0), above(0.0)
Signed = tuple[dict[str, Any], dict[Expr, Span]]
"""sympy symbols of variables with a known sign, and the same for the IR."""


def rate(expr: Expr, scores: Span, anchor: Expr | None = None, offset: float = 0.0) -> float | None:
    """The k for which phi(s, m + t) = exp(-k t) phi(s, m); None: it is 0 everywhere, and any k will do.

    With an anchor it is proven for m >= anchor(s) + offset only: other m are never met.
    """
    moving = "m"
    known: dict[Expr, Span] = {}
    if anchor is not None:
        # `before` is how far m lies above; it stands in no expression of a declaration.
        moving, known[sym("before")] = "before", at_least(0)
        expr = substitute(expr, {"m": op("add", op("add", anchor, offset), sym("before"))})
    line = sp.Symbol("m", real=True, **({"nonnegative": True} if anchor is not None else {}))
    found: set[Any] = set()
    for variables, spans in _signed("s", scores):
        unknowns = Unknowns({**variables, moving: line})
        flow = _Flow(unknowns, Signs({**known, **spans}), {moving: ANCHOR["m"]}, lambda f: sp.diff(f, line))
        found |= flow.rates(expr)
    rates = [float(k) for k in found]
    if any(not same_rate(k, rates[0]) for k in rates):
        raise Undecided("more than one rate")
    return rates[0] if rates else None


def prove_invariant(expr: Expr, k: float, mass: Span) -> None:
    """Proves that an expression in acc, mass and m stays when the anchor of the sums moves."""
    exact, m = _exact(k), sp.Symbol("m", real=True)
    for acc, acc_spans in _signed("acc", Span()):
        for total, mass_spans in _signed("mass", mass):

            def along(formula: Any, sums: tuple[Any, Any] = (acc["acc"], total["mass"])) -> Any:
                return sp.diff(formula, m) - exact * sum(_grown(formula, each) for each in sums)

            unknowns = Unknowns({**acc, **total, "m": m})
            flow = _Flow(unknowns, Signs({**acc_spans, **mass_spans}), state(k), along)
            for case in flow.cases(expr):
                if _finite(case.formula) and sp.simplify(along(case.formula)) != 0:
                    raise Undecided("it changes with the anchor")


class _Flow:
    """The lines on which a shift moves the variables. `moves` is what it does to symbols, `along` the derivative."""

    def __init__(
        self, unknowns: Unknowns, signs: Signs, moves: Mapping[str, Motion], along: Callable[[Any], Any]
    ) -> None:
        self.unknowns, self.signs, self.moves, self.along = unknowns, signs, moves, along
        self.fixed: dict[Expr, bool] = {}

    def cases(self, expr: Expr) -> list[Case]:
        """The cases of an expression. Those between which a line can lead are one formula, or this is `Undecided`."""
        every = cases(expr, self.unknowns, self.signs)
        for case, other in combinations(every, 2):
            differ = [c for c, holds in case.chosen.items() if other.chosen.get(c, holds) != holds]
            if not any(map(self.stays, differ)) and sp.simplify(case.formula - other.formula) != 0:
                raise Undecided("a condition changes with the anchor")
        return every

    def stays(self, condition: Expr) -> bool:
        """Whether a condition is the same all along a line: by structure, or because both sides differ by what is
        multiplied by a positive factor."""
        if condition not in self.fixed:
            self.fixed[condition] = motion(condition, self.moves).still or self._keeps_its_sign(condition)
        return self.fixed[condition]

    def _keeps_its_sign(self, condition: Expr) -> bool:
        match condition:
            case Op(name=name, args=(a, b)) if name in OPPOSITE:
                try:
                    return len(self.rates(op("sub", a, b))) <= 1
                except Undecided:
                    return False
        return False

    def rates(self, expr: Expr) -> set[Any]:
        """The k with which the expression is multiplied by exp(-k t); none where it is 0."""
        found: set[Any] = set()
        for case in self.cases(expr):
            slope = sp.simplify(self.along(case.formula))
            if slope == 0 and sp.simplify(case.formula) == 0:
                continue
            quotient = sp.simplify(slope / case.formula)
            if quotient.free_symbols or not quotient.is_real:
                raise Undecided("the rate is not a number")
            found.add(-quotient)
        return found


def prove_never_negative(expr: Expr, scores: Span) -> None:
    """Proves that an expression in s is at least 0."""
    for variables, spans in _signed("s", scores):
        for case in cases(expr, Unknowns(dict(variables)), Signs(spans)):
            if case.formula.is_nonnegative:
                continue
            place = next(iter(variables["s"].free_symbols), None)
            if place is None or case.formula.free_symbols - {place}:
                raise Undecided("its sign depends on inputs")
            x = sp.Symbol("x", real=True)
            span = case.signs.of(sym("s"))
            region = sp.Interval(_end(span.low), _end(span.high), span.low_open, span.high_open)
            flip = -1 if variables["s"] != place else 1
            if not _never_negative(case.formula.subs(place, flip * x), x, region):
                raise Undecided("its sign is not known")


def _signed(name: str, span: Span) -> Iterator[Signed]:
    """The variable below zero, at zero, above zero, as far as the span goes."""
    size = sp.Symbol(name, positive=True)
    for value, part in ((-size, NEGATIVE), (sp.Integer(0), ZERO), (size, POSITIVE)):
        if not (span & part).empty:
            yield {name: value}, {sym(name): span & part}


def _grown(formula: Any, variable: Any) -> Any:
    """variable * d formula / d variable."""
    symbol = next(iter(variable.free_symbols), None)
    # The variable is plus or minus its symbol; in the product the sign cancels.
    return sp.Integer(0) if symbol is None else symbol * sp.diff(formula, symbol)


def _finite(formula: Any) -> bool:
    return not formula.has(sp.zoo, sp.nan, sp.oo, -sp.oo)


def _exact(k: float) -> Any:
    """The rate as the fraction, or the fraction of log 2, that it was rounded from."""
    for unit, size in ((sp.Integer(1), 1.0), (sp.log(2), float(sp.log(2)))):
        simple = Fraction(k / size).limit_denominator(10_000)
        if same_rate(float(simple) * size, k):
            return sp.Rational(simple.numerator, simple.denominator) * unit
    return sp.Rational(k)


def _end(value: float) -> Any:
    return sp.Rational(value) if abs(value) < float("inf") else sp.oo if value > 0 else -sp.oo


def _never_negative(formula: Any, x: Any, region: Any) -> bool:
    """Whether a formula of one variable is >= 0 in the interval: by its sign between zeros, or by its minima."""
    if formula.is_number:
        return bool(formula.is_nonnegative)
    if not region.is_Interval:
        return bool(all(formula.subs(x, point).is_nonnegative for point in region))
    if _zeros(sp.denom(sp.together(formula)), x, region) or sp.singularities(formula, x, region) != sp.EmptySet:
        raise Undecided("it has poles")
    try:
        borders = _zeros(formula, x, region)
    except Undecided:
        return _minima_not_negative(formula, x, region)
    points = [region.inf, *sorted(borders), region.sup]
    between = [_middle(a, b) for a, b in pairwise(points) if a != b]
    return all(bool(sp.N(formula.subs(x, p), 30) > 0) for p in between)


def _minima_not_negative(formula: Any, x: Any, region: Any) -> bool:
    """What is >= 0 at both ends and where it is flat is >= 0 in between."""
    flat = [formula.subs(x, point) for point in _zeros(sp.diff(formula, x), x, region)]
    ends = [sp.limit(formula, x, region.inf, "+"), sp.limit(formula, x, region.sup, "-")]
    return all(bool(sp.simplify(value).is_nonnegative) or value == sp.oo for value in (*flat, *ends))


def _zeros(formula: Any, x: Any, region: Any) -> list[Any]:
    """All zeros inside of the interval; raises `Undecided` where they are not known."""
    formula = sp.simplify(formula)
    if formula.is_number:
        if formula == 0:
            raise Undecided("zero everywhere")
        return []
    if formula.is_polynomial(x):
        return [root for root in sp.real_roots(sp.Poly(formula, x), multiple=True) if root in region]
    found = sp.solveset(formula, x, region)
    if found == sp.EmptySet:
        return []
    if isinstance(found, sp.FiniteSet):
        return list(found)
    raise Undecided("its zeros are not known")


def _middle(a: Any, b: Any) -> Any:
    if a == -sp.oo:
        return sp.Integer(0) if b == sp.oo else b - 1
    return a + 1 if b == sp.oo else (a + b) / 2
