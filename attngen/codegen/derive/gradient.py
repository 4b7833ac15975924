"""Derivatives of expressions, by the chain rule from the results back to the leaves (reverse mode).

What a condition rules out is ruled out of the derivative too: a cotangent carries the condition under which it flows,
and the condition is applied last. So where(x > 0, log(x), 0) has the derivative 0, not NaN, at x = 0. Kinks have the
derivatives that torch gives them: 0 for relu, abs and sign at 0, halves for both sides of a tied minimum or maximum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from attngen.ir.expr import Const, Expr, Load, Op, const, intern, op, postorder, sym

Terms = dict["Expr | None", Expr]
"""A cotangent: a value for each condition under which it flows; None: always."""

MOST_CONDITIONS = 4
ZERO, ONE = const(0.0), const(1.0)


def gradient(outputs: Sequence[tuple[Expr, Expr]], leaves: Sequence[Expr]) -> tuple[Expr, ...]:
    """The derivative of sum(expr * cotangent for expr, cotangent in outputs) by each leaf, a symbol or a load."""
    roots = [expr for expr, _ in outputs]
    nodes = intern(*roots)
    order = list(dict.fromkeys(nodes[id(node)] for node in postorder(*roots)))
    flows: dict[Expr, Terms] = {}
    for expr, cotangent in outputs:
        if expr.type == "float":
            _flow(flows, expr, None, cotangent)
    wanted = set(leaves)
    for node in reversed(order):
        if isinstance(node, Op) and node in flows:
            terms = flows.pop(node)
            if len(terms) > MOST_CONDITIONS:
                terms = {_any(terms): _total(terms)}
            for condition, cotangent in terms.items():
                for argument, more, part in _parts(node, cotangent):
                    if argument.type == "float" and part != ZERO and (isinstance(argument, Op) or argument in wanted):
                        _flow(flows, argument, _both(condition, more), part)
    return tuple(_total(flows.get(leaf, {})) for leaf in leaves)


def derivative(expr: Expr, name: str) -> Expr:
    """The derivative by one symbol."""
    return gradient([(expr, ONE)], [sym(name)])[0]


def float_loads(exprs: Sequence[Expr], wanted: frozenset[str]) -> tuple[Load, ...]:
    """The loads of the wanted tensors through which a derivative may flow, in order of evaluation."""
    found = (n for n in postorder(*exprs) if isinstance(n, Load) and n.type == "float" and n.indices)
    return tuple(n for n in dict.fromkeys(found) if n.tensor in wanted)


def _flow(flows: dict[Expr, Terms], to: Expr, condition: Expr | None, part: Expr) -> None:
    terms = flows.setdefault(to, {})
    terms[condition] = add(terms[condition], part) if condition in terms else part


def _both(one: Expr | None, other: Expr | None) -> Expr | None:
    if one is None or one == other:
        return other
    return one if other is None else op("and", one, other)


def _any(terms: Terms) -> Expr | None:
    """The condition under which anything flows."""
    found: Expr | None = None
    for condition in terms:
        if condition is None:
            return None
        found = condition if found is None else op("or", found, condition)
    return found


def _total(terms: Terms) -> Expr:
    total: Expr = ZERO
    for condition, value in terms.items():
        total = add(total, value if condition is None else op("where", condition, value, ZERO))
    return total


Part = tuple[Expr, "Expr | None", Expr]
"""An argument, the condition under which the cotangent reaches it, and the cotangent."""


def _parts(node: Op, g: Expr) -> list[Part]:
    args = node.args
    match node.name:
        case "add":
            return [(args[0], None, g), (args[1], None, g)]
        case "sub":
            return [(args[0], None, g), (args[1], None, neg(g))]
        case "mul":
            return [(args[0], None, mul(g, args[1])), (args[1], None, mul(g, args[0]))]
        case "truediv" if isinstance(args[1], Const) and args[1].value:
            return [(args[0], None, mul(g, const(1.0 / args[1].value)))]
        case "truediv":
            return [
                (args[0], None, op("truediv", g, args[1])),
                (args[1], None, neg(mul(g, op("truediv", node, args[1])))),
            ]
        case "safe_div":
            by = op("safe_div", g, args[1])
            return [(args[0], None, by), (args[1], None, neg(mul(by, node)))]
        case "mod":
            return [(args[0], None, g), (args[1], None, neg(mul(g, op("floor", op("truediv", *args)))))]
        case "pow":
            return _power(node, g)
        case "where":
            return [(args[1], args[0], g), (args[2], op("not", args[0]), g)]
        case "relu":
            return [(args[0], op("gt", args[0], ZERO), g)]
        case "maximum" | "minimum":
            return _extreme(node, g)
        case "to_float":
            return [(args[0], None, g)]
        case name if name in SLOPES:
            return [(args[0], None, SLOPES[name](args[0], node, g))]
        case _:  # floor, ceil, round, sign, floordiv: constant in pieces
            return []


def _power(node: Op, g: Expr) -> list[Part]:
    base, exponent = node.args
    match exponent:
        case Const(value=value) if value == 2:
            slope = mul(const(2.0), base)
        case Const(value=value):
            slope = mul(const(float(value)), op("pow", base, const(value - 1)))
        case _:
            slope = mul(exponent, op("pow", base, op("sub", exponent, ONE)))
    by_exponent = mul(g, mul(node, op("log", base)))
    return [(base, None, mul(g, slope)), (exponent, op("gt", base, ZERO), by_exponent)]


def _extreme(node: Op, g: Expr) -> list[Part]:
    a, b = node.args
    first = op("gt" if node.name == "maximum" else "lt", a, b)
    tie = op("where", op("eq", a, b), const(0.5), ZERO)
    share = op("where", first, ONE, tie)
    return [(a, None, mul(g, share)), (b, None, mul(g, op("sub", ONE, share)))]


SLOPES: dict[str, Callable[[Expr, Expr, Expr], Expr]] = {
    "neg": lambda x, y, g: neg(g),
    "abs": lambda x, y, g: mul(g, op("sign", x)),
    "exp": lambda x, y, g: mul(g, y),
    "exp2": lambda x, y, g: mul(g, mul(y, const(math.log(2)))),
    "expm1": lambda x, y, g: mul(g, op("add", y, ONE)),
    "log": lambda x, y, g: op("truediv", g, x),
    "log2": lambda x, y, g: op("truediv", g, mul(x, const(math.log(2)))),
    "log1p": lambda x, y, g: op("truediv", g, op("add", x, ONE)),
    "sqrt": lambda x, y, g: op("truediv", mul(g, const(0.5)), y),
    "rsqrt": lambda x, y, g: mul(g, mul(const(-0.5), mul(y, mul(y, y)))),
    "tanh": lambda x, y, g: mul(g, op("sub", ONE, mul(y, y))),
    "sin": lambda x, y, g: mul(g, op("cos", x)),
    "cos": lambda x, y, g: neg(mul(g, op("sin", x))),
    "sigmoid": lambda x, y, g: mul(g, mul(y, op("sub", ONE, y))),
    "softplus": lambda x, y, g: mul(g, op("sigmoid", x)),
    "erf": lambda x, y, g: mul(g, mul(const(2 / math.sqrt(math.pi)), op("exp", neg(mul(x, x))))),
}
"""Cotangent of the argument x of y = f(x), from the cotangent g of y."""


def mul(a: Expr, b: Expr) -> Expr:
    """The product, without factors of 0 and 1: derived terms may be simplified, what users write may not."""
    if ZERO in (a, b):
        return ZERO
    if a == ONE:
        return b
    return a if b == ONE else op("mul", a, b)


def add(a: Expr, b: Expr) -> Expr:
    """The sum, without zeros."""
    if a == ZERO:
        return b
    return a if b == ZERO else op("add", a, b)


def neg(a: Expr) -> Expr:
    """The negative."""
    match a:
        case Const(value=value):
            return const(-value)
        case Op(name="neg", args=(inner,)):
            return inner
        case _:
            return op("neg", a)
