"""The least and the greatest value of an expression over a query tile, as expressions in the ends of the tile.

They use monotonicity only, so they are exact where each query symbol enters monotonically and bounds otherwise. None
means that no bound is known (an element of a tensor indexed by the query).
"""

from __future__ import annotations

from dataclasses import replace

from attngen.codegen.analysis import build
from attngen.codegen.analysis.affine import Affine, affine
from attngen.codegen.analysis.frame import QUERIES, Frame, depends_on
from attngen.ir.expr import Const, Expr, Op, Sym, const, op


def extreme(form: Affine, high: bool, frame: Frame) -> Affine | None:
    """The greatest (`high`) or least value of an affine form over the tile."""
    if frame.of_a_row:
        return form
    # Fewer terms that vary give the tighter sum: q - q % c is one term expanded, q % c is one as it stands.
    expanded = affine(form.expr(), True)
    return _sum(expanded if _varying(expanded) < _varying(form) else form, high, frame)


def _varying(form: Affine) -> int:
    return sum(depends_on(atom, QUERIES) for atom, _ in form.terms)


def _sum(form: Affine, high: bool, frame: Frame) -> Affine | None:
    total = Affine((), form.constant)
    for atom, c in form.terms:
        end = _atom(atom, high == (c > 0), frame)
        if end is None:
            return None
        total = total + affine(end) * c
    return total


def _of(e: Expr, high: bool, frame: Frame) -> Expr | None:
    found = extreme(affine(e), high, frame)
    return None if found is None else found.expr()


def _atom(e: Expr, high: bool, frame: Frame) -> Expr | None:
    if not depends_on(e, QUERIES):
        return e
    match e:
        case Sym(name=name):
            return (frame.last if high else frame.first).get(name)
        case Op(name="floordiv", args=(a, b)):
            return _floordiv(a, b, high, frame)
        case Op(name="mul", args=(a, b)):
            return _product(*((a, b) if depends_on(b, QUERIES) else (b, a)), high, frame)
        case Op(name="mod", args=(a, Const(value=int(by)) as modulus)) if by > 0:
            return _mod(a, modulus, high, frame)
        case Op(name="minimum" | "maximum", args=(a, b)):
            x, y = _of(a, high, frame), _of(b, high, frame)
            smaller = e.name == "minimum"
            if x is None or y is None:
                # minimum(x, y) <= x bounds it from above although y is unknown.
                return (x if y is None else y) if smaller == high else None
            return build.least(x, y) if smaller else build.greatest(x, y)
        case Op(name="abs", args=(a,)):
            least, most = _of(a, False, frame), _of(a, True, frame)
            if least is None or most is None:
                return None if high else const(0)
            if high:
                return build.greatest(most, (-affine(least)).expr())
            return build.greatest(build.greatest(least, (-affine(most)).expr()), const(0))
        case Op(name="where", args=(c, a, b)):
            return _where(c, a, b, high, frame)
        case Op(name="to_int", args=(a,)) if a.type == "bool":
            found = condition(a, every=not high, frame=frame)
            return build.select(found, const(1), const(0))
        case Op(name="sign"):
            return const(1 if high else -1)
        case _:
            return None


def _floordiv(a: Expr, b: Expr, high: bool, frame: Frame) -> Expr | None:
    if depends_on(b, QUERIES):
        return None
    end = _of(a, high == frame.assume_sign(b), frame)
    return None if end is None else build.floor_divided(end, b)


def _product(factor: Expr, a: Expr, high: bool, frame: Frame) -> Expr | None:
    """factor * a, where `factor` is the same for every query."""
    if depends_on(factor, QUERIES):
        return None
    end = _of(a, high == frame.assume_sign(factor), frame)
    return None if end is None else affine(op("mul", factor, end)).expr()


def _mod(a: Expr, modulus: Const, high: bool, frame: Frame) -> Expr:
    """Within one period the ends of the tile, else 0 or modulus - 1."""
    by = int(modulus.value)
    widest = const(by - 1 if high else 0)
    least, most = _of(a, False, frame), _of(a, True, frame)
    if least is None or most is None:
        return widest
    periods = affine(build.floor_divided(most, modulus)) - affine(build.floor_divided(least, modulus))
    end = affine(op("mod", most if high else least, modulus)).expr()
    return build.select(build.not_positive(periods), end, widest)


def _where(c: Expr, a: Expr, b: Expr, high: bool, frame: Frame) -> Expr | None:
    x, y = _of(a, high, frame), _of(b, high, frame)
    if x is None or y is None:
        return None
    always, never = condition(c, True, frame), condition(build.inverted(c), True, frame)
    either = build.greatest(x, y) if high else build.least(x, y)
    return build.select(always, x, build.select(never, y, either))


def condition(e: Expr, every: bool, frame: Frame, negate: bool = False) -> Expr:
    """A condition on the queries as a bool that holds for every query of the tile (`every`), or for some query.

    Sound in one direction: for `every`, true implies that all satisfy it; for some, false implies that none does.
    """
    match e:
        case Op(name="not", args=(a,)):
            return condition(a, every, frame, not negate)
        case Op(name="and" | "or", args=(a, b)):
            x, y = condition(a, every, frame, negate), condition(b, every, frame, negate)
            return build.both(x, y) if (e.name == "and") != negate else build.either(x, y)
        case Op(name="lt" | "le" | "gt" | "ge" | "eq" | "ne", args=(a, b)) if {a.type, b.type} <= {"int"}:
            return build_from(comparisons(e.name, affine(a) - affine(b), negate), every, frame)
        case _ if frame.of_a_row or not depends_on(e, QUERIES):
            return build.inverted(e) if negate else e
        case _:
            return build.FALSE if every else build.TRUE


def build_from(parts: tuple[str, list[Affine]], every: bool, frame: Frame) -> Expr:
    """The conjunction or disjunction of form <= 0 over the tile."""
    join, forms = parts
    found = [_not_positive(form, every, frame) for form in forms]
    if len(found) == 1:
        return found[0]
    return build.both(*found) if join == "and" else build.either(*found)


def _not_positive(form: Affine, every: bool, frame: Frame) -> Expr:
    end = extreme(form, every, frame)
    if end is None:
        return build.FALSE if every else build.TRUE
    return build.not_positive(end)


def comparisons(name: str, difference: Affine, negate: bool = False) -> tuple[str, list[Affine]]:
    """`difference <name> 0` as forms f with f <= 0, joined by "and" or "or"."""
    if negate:
        name = {"lt": "ge", "le": "gt", "gt": "le", "ge": "lt", "eq": "ne", "ne": "eq"}[name]
    match name:
        case "lt":
            return "and", [difference + 1]
        case "le":
            return "and", [difference]
        case "gt":
            return "and", [-difference + 1]
        case "ge":
            return "and", [-difference]
        case "eq":
            return "and", [difference, -difference]
        case _:
            return "or", [difference + 1, -difference + 1]


def restricted(e: Expr, negate: bool, frame: Frame) -> Frame:
    """The frame of the queries of the tile that meet a condition: its ends move where the condition bounds a query."""
    match e:
        case Op(name="not", args=(a,)):
            return restricted(a, not negate, frame)
        case Op(name="and" | "or", args=(a, b)) if (e.name == "and") != negate:
            return restricted(b, negate, restricted(a, negate, frame))
        case Op(name="lt" | "le" | "gt" | "ge" | "eq" | "ne", args=(a, b)) if {a.type, b.type} <= {"int"}:
            join, forms = comparisons(e.name, affine(a) - affine(b), negate)
            for form in forms if join == "and" else []:
                frame = _bounded(form, frame)
    return frame


def _bounded(form: Affine, frame: Frame) -> Frame:
    """The frame of the queries with form <= 0, where the form is c * query + something that is the same for all."""
    varying = [(atom, c) for atom, c in form.terms if depends_on(atom, QUERIES)]
    match varying:
        case [(Sym(name=name) as q, int(c))] if name in frame.first:
            rest = form.without(q)
            end = affine(op("floordiv", (-rest).expr(), abs(c)))
            if c > 0:
                return replace(frame, last={**frame.last, name: build.least(frame.last[name], end.expr())})
            return replace(frame, first={**frame.first, name: build.greatest(frame.first[name], (-end).expr())})
        case _:
            return frame
