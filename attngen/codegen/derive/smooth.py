"""Continuity by structure: whether an expression is continuous in a variable, with a slope that is bounded nearby.

Kinks are fine (relu, abs, maximum); jumps, poles and infinite slopes are not. What is found is proven; what is not is
left to `continuity`, which looks at numbers.
"""

from __future__ import annotations

from attngen.ir.expr import Const, Expr, Load, Op, Sym, postorder
from attngen.ir.signs import Signs, Spans

ANYWHERE = frozenset(
    {"add", "sub", "mul", "neg", "exp", "exp2", "expm1", "tanh", "sin", "cos", "sigmoid", "softplus", "erf"}
    | {"relu", "abs", "maximum", "minimum", "to_float"}
)
"""Continuous wherever their arguments are, with bounded slopes."""


def is_smooth(expr: Expr, name: str, given: Spans) -> bool:
    """Whether the expression is proven to be continuous in the variable, with bounded slopes, on the given span."""
    moving = {id(n) for n in _moving(expr, name)}
    try:
        return _smooth(expr, moving, Signs(given))
    except RecursionError:
        return False


def _moving(expr: Expr, name: str) -> list[Expr]:
    """The nodes that depend on the variable."""
    ids: set[int] = set()
    found: list[Expr] = []
    for node in postorder(expr):
        if (isinstance(node, Sym) and node.name == name) or any(id(c) in ids for c in node.children):
            ids.add(id(node))
            found.append(node)
    return found


def _smooth(root: Expr, moving: set[int], signs: Signs) -> bool:
    """Walks each node once; both sides of a condition on other data are walked under it."""
    stack, seen = [root], set()
    while stack:
        node = stack.pop()
        if signs.tired:
            return False
        if id(node) not in moving or id(node) in seen:
            continue
        seen.add(id(node))
        match node:
            case Sym():
                continue
            case Load():
                return False
            case Op(name="where", args=(condition, yes, no)):
                decided = signs.decided(condition)
                if decided is not None:
                    stack.append(yes if decided else no)
                elif id(condition) in moving:
                    return False
                else:
                    sides = [(yes, signs.assume(condition, True)), (no, signs.assume(condition, False))]
                    if not all(known is None or _smooth(side, moving, known) for side, known in sides):
                        return False
            case Op(name=name, args=args):
                if node.type == "bool" or not _bounded_slope(name, args, moving, signs):
                    return False
                stack.extend(args)
    return True


def _bounded_slope(name: str, args: tuple[Expr, ...], moving: set[int], signs: Signs) -> bool:
    if name in ANYWHERE:
        return name != "to_float" or args[0].type != "bool"
    match name, args:
        case (("truediv" | "safe_div"), (_, divisor)):
            return id(divisor) not in moving or signs.of(divisor).nonzero
        case (("log" | "log2" | "sqrt" | "rsqrt"), (a,)):
            return signs.of(a).positive
        case "log1p", (a,):
            span = signs.of(a)
            return span.low > -1 or (span.low == -1 and span.low_open)
        case "pow", (base, Const(value=exponent)):
            span = signs.of(base)
            if isinstance(exponent, int) or float(exponent).is_integer():
                return exponent >= 0 or span.nonzero
            return span.positive or (span.nonnegative and exponent >= 1)
        case "pow", (base, exponent):
            return signs.of(base).positive or (id(exponent) not in moving and _at_least_one(exponent, base, signs))
    return False


def _at_least_one(exponent: Expr, base: Expr, signs: Signs) -> bool:
    return signs.of(exponent).low >= 1 and signs.of(base).nonnegative
