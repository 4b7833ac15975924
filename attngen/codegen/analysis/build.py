"""Smart constructors: expressions for loop bounds, kept small by the affine normal form and by `prove`."""

from __future__ import annotations

from attngen.codegen.analysis.affine import Affine, affine
from attngen.codegen.analysis.prove import at_most, is_nonnegative
from attngen.ir.expr import Const, Expr, Op, const, op

TRUE = const(True)
FALSE = const(False)
ZERO = const(0)


def plus(a: Expr, b: Expr | int) -> Expr:
    """a + b"""
    return (affine(a) + (b if isinstance(b, int) else affine(b))).expr()


def minus(a: Expr, b: Expr) -> Expr:
    """a - b"""
    return (affine(a) - affine(b)).expr()


def floor_divided(a: Expr, b: Expr) -> Expr:
    """a // b"""
    return affine(op("floordiv", a, b)).expr()


def least(a: Expr, b: Expr) -> Expr:
    """minimum(a, b): flat, without arguments that are proven to be no less than another."""
    return _chain("minimum", [*_leaves("minimum", a), *_leaves("minimum", b)])


def greatest(a: Expr, b: Expr) -> Expr:
    """maximum(a, b): flat, without arguments that are proven to be no greater than another.

    maximum(minimum(x, n), minimum(y, n)) => minimum(maximum(x, y), n)
    """
    if at_most(b, a):
        return a
    if at_most(a, b):
        return b
    x, y = _leaves("minimum", a), _leaves("minimum", b)
    shared = [e for e in x if e in y]
    if len(shared) in (len(x), len(y)):
        return a if len(shared) == len(x) else b
    if shared:
        rest = [_chain("minimum", [e for e in side if e not in shared]) for side in (x, y)]
        return _chain("minimum", [greatest(*rest), *shared])
    return _chain("maximum", [*_leaves("maximum", a), *_leaves("maximum", b)])


def _leaves(name: str, e: Expr) -> list[Expr]:
    if isinstance(e, Op) and e.name == name:
        return [leaf for a in e.args for leaf in _leaves(name, a)]
    return [e]


def _chain(name: str, leaves: list[Expr]) -> Expr:
    """The leaves that matter, constants last."""
    kept: list[Expr] = []
    for e in leaves:
        beaten = (lambda x, y: at_most(y, x)) if name == "minimum" else at_most
        if not any(beaten(e, k) for k in kept):
            kept = [*(k for k in kept if not beaten(k, e)), e]
    kept.sort(key=lambda e: isinstance(e, Const))
    result = kept[0]
    for e in kept[1:]:
        result = op(name, result, e)
    return result


def select(condition: Expr, a: Expr, b: Expr) -> Expr:
    """where(condition, a, b)"""
    if isinstance(condition, Const):
        return a if condition.value else b
    return a if a == b else op("where", condition, a, b)


def both(a: Expr, b: Expr) -> Expr:
    """a and b"""
    if FALSE in (a, b) or _exclude(a, b):
        return FALSE
    return b if a in (TRUE, b) else a if b == TRUE else op("and", a, b)


def either(a: Expr, b: Expr) -> Expr:
    """a or b"""
    if TRUE in (a, b):
        return TRUE
    return b if a in (FALSE, b) else a if b == FALSE else op("or", a, b)


def inverted(a: Expr) -> Expr:
    """not a"""
    match a:
        case Const(value=value):
            return const(not value)
        case Op(name="not", args=(inner,)):
            return inner
        case _:
            form = _as_form(a)
            return op("not", a) if form is None else not_positive(-form + 1)


def _as_form(e: Expr) -> Affine | None:
    """The form f of a condition f <= 0 that `not_positive` built."""
    if isinstance(e, Op) and e.name == "le" and "float" not in (e.args[0].type, e.args[1].type):
        return affine(e.args[0]) - affine(e.args[1])
    return None


def _exclude(a: Expr, b: Expr) -> bool:
    """Whether two conditions are proven never to hold together: f <= 0 and g <= 0 with f + g >= 1."""
    pairs = [(x, y) for x in _leaves("and", a) for y in _leaves("and", b)]
    for x, y in pairs:
        f, g = _as_form(x), _as_form(y)
        if f is not None and g is not None and is_nonnegative(f + g - 1):
            return True
    return any(inverted(x) == y for x, y in pairs)


def not_positive(form: Affine) -> Expr:
    """form <= 0, as a comparison of its negative with its positive terms."""
    if is_nonnegative(-form):
        return TRUE
    if is_nonnegative(form - 1):
        return FALSE
    left = Affine(tuple(t for t in form.terms if t[1] > 0), max(form.constant, 0))
    right = Affine(tuple((a, -c) for a, c in form.terms if c < 0), max(-form.constant, 0))
    return op("le", left.expr(), right.expr())
