"""What is known of the value of an expression whatever its inputs are: which numbers it can be, above all its sign.

Both sides of a `where` are looked at under its condition: where(x > 0, x + 1, exp(x)) is positive.
"""

from __future__ import annotations

from collections.abc import Mapping

from attngen.ir.expr import Const, Expr, Load, Op, Sym
from attngen.ir.span import INF, LINE, Span, at_least, between, exactly
from attngen.ir.span_ops import BOTH, NO, OPPOSITE, YES, any_power, applied, in_domain, logical, power

Spans = Mapping[Expr, Span]
"""What is known of symbols, and of other expressions that conditions speak of."""

SIZES = frozenset({"n_q", "n_k", "n_b", "n_h", "n_visible", "heads", "d"})
COUNTED = frozenset({"b", "h", "q", "kv", "dim", "count"})
MOST_NODES = 20_000
FLIPPED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq", "ne": "ne"}


def span_of(expr: Expr, given: Spans | None = None) -> Span:
    """The numbers that the expression can be. A bool is 0 or 1."""
    try:
        return Signs(given or {}).of(expr)
    except RecursionError:
        return LINE


def never_negative(expr: Expr, given: Spans | None = None) -> bool:
    """Whether it is proven that the expression is at least 0."""
    return span_of(expr, given).nonnegative


class Signs:
    """The spans of expressions under what is given; each distinct node is looked at once.

    Conditions on conditions on shared expressions could double the work each: beyond `MOST_NODES` nothing is known.
    """

    def __init__(self, given: Spans, seen: list[int] | None = None) -> None:
        self.given = given
        self.done: dict[int, tuple[Expr, Span, bool]] = {}
        self._seen = [0] if seen is None else seen

    @property
    def tired(self) -> bool:
        """Whether nothing more will be found out."""
        return self._seen[0] >= MOST_NODES

    def of(self, expr: Expr) -> Span:
        """The numbers that the expression can be."""
        if id(expr) not in self.done:
            self._seen[0] += 1
            found = LINE if self.tired else self._of(expr)
            known = self.given.get(expr)
            # The node is kept with its span, so that its id is not given to another one.
            self.done[id(expr)] = expr, found if known is None else found & known, self._is_number(expr)
        return self.done[id(expr)][1]

    def is_number(self, expr: Expr) -> bool:
        """Whether it is never NaN for finite inputs; a span speaks of numbers only."""
        self.of(expr)
        return self.done[id(expr)][2]

    def _is_number(self, expr: Expr) -> bool:
        if not isinstance(expr, Op):
            return True
        if self.tired:
            return False
        if expr.name == "where":
            sides = [(expr.args[1], self.assume(expr.args[0], True)), (expr.args[2], self.assume(expr.args[0], False))]
            return all(signs is None or signs.is_number(side) for side, signs in sides)
        if not all(self.is_number(a) for a in expr.args):
            return False
        return in_domain(expr.name, [self.of(a) for a in expr.args])

    def _of(self, expr: Expr) -> Span:
        match expr:
            case Const(value=value):
                return exactly(float(value))
            case Sym(name=name):
                return at_least(1) if name in SIZES else at_least(0) if name in COUNTED else LINE
            case Load():
                return BOTH if expr.type == "bool" else LINE
            case Op(name="where", args=(condition, yes, no)):
                sides = [(yes, self.assume(condition, True)), (no, self.assume(condition, False))]
                spans = [signs.of(side) for side, signs in sides if signs is not None]
                return LINE if not spans else spans[0] if len(spans) == 1 else spans[0] | spans[1]
            case Op():
                return self._operator(expr)
        return LINE

    def _operator(self, node: Op) -> Span:
        spans = [self.of(a) for a in node.args]
        # Every comparison with NaN but != is false, and its sign or integer is anything.
        if node.type == "bool" or node.name in ("sign", "to_int"):
            whole = between(-1, 1) if node.name == "sign" else LINE if node.type == "int" else BOTH
            if not all(self.is_number(a) for a in node.args):
                return whole
        if node.type == "bool":
            return logical(node.name, spans)
        if any(s.empty for s in spans):
            return LINE
        match node.name:
            case "mul" if node.args[0] == node.args[1]:
                return power(spans[0], 2.0)
            case "pow":
                exponent = spans[1]
                return power(spans[0], exponent.low) if exponent.low == exponent.high else any_power(spans[0])
            case "mod" if spans[1].positive:
                return Span(0.0, spans[1].high, False, True)
        return applied(node.name, spans)

    def assume(self, condition: Expr, holds: bool) -> Signs | None:
        """The spans where the condition holds, or does not; None: it cannot be."""
        more = self._assumed(condition, holds, dict(self.given))
        if more is None:
            return None
        return self if more == self.given else Signs(more, self._seen)

    def decided(self, condition: Expr) -> bool | None:
        """Whether the condition always holds or never does; None: not known."""
        yes, no = self.assume(condition, True), self.assume(condition, False)
        return None if yes is not None and no is not None else no is None

    def _assumed(self, condition: Expr, holds: bool, known: dict[Expr, Span]) -> dict[Expr, Span] | None:
        value = self.of(condition)
        if value == (NO if holds else YES):
            return None
        match condition:
            case Op(name="not", args=(inner,)):
                return self._assumed(inner, not holds, known)
            case Op(name="and" | "or" as name, args=(a, b)) if (name == "and") == holds:
                first = self._assumed(a, holds, known)
                return None if first is None else self._assumed(b, holds, first)
            case Op(name=name, args=(a, b)) if name in OPPOSITE:
                relation = name if holds else OPPOSITE[name]
                if (not holds or name == "ne") and not (self.is_number(a) and self.is_number(b)):
                    return known
                if not all(self._bounded(known, x, r, self.of(y)) for x, r, y in
                           ((a, relation, b), (b, FLIPPED[relation], a))):  # fmt: skip
                    return None
        return known

    def _bounded(self, known: dict[Expr, Span], expr: Expr, relation: str, by: Span) -> bool:
        """Writes down that expr < by (or another relation) holds. False: it cannot."""
        bounds = {
            "lt": Span(-INF, by.high),
            "le": Span(-INF, by.high, True, by.high_open),
            "gt": Span(by.low, INF),
            "ge": Span(by.low, INF, by.low_open, True),
            "eq": by,
            "ne": LINE,
        }
        return self._narrow(known, expr, bounds[relation])

    def _narrow(self, known: dict[Expr, Span], expr: Expr, to: Span) -> bool:
        span = known.get(expr, self.of(expr)) & to
        if span.empty:
            return False
        if isinstance(expr, Const):
            return True
        known[expr] = span
        match expr:
            case Op(name="neg", args=(a,)):
                return self._narrow(known, a, -span)
            case Op(name="to_float", args=(a,)) if a.type == "int":
                return self._narrow(known, a, span)
            case Op(name="add", args=(a, Const() as c)) | Op(name="add", args=(Const() as c, a)):
                return self._narrow(known, a, span + -self.of(c))
            case Op(name="sub", args=(a, Const() as c)):
                return self._narrow(known, a, span + self.of(c))
            case Op(name="sub", args=(Const() as c, a)):
                return self._narrow(known, a, self.of(c) + -span)
            case Op(name="mul", args=(a, Const(value=c))) | Op(name="mul", args=(Const(value=c), a)) if c:
                return self._narrow(known, a, span * exactly(1 / c))
            case Op(name="abs", args=(a,)):
                return self._narrow(known, a, Span(-span.high, span.high, span.high_open, span.high_open))
            case Op(name="relu", args=(a,)) if span.positive:
                return self._narrow(known, a, span)
        return True
