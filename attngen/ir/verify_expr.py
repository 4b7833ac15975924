"""Checks one expression where it stands: its symbols, its loads, its literals, its type."""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import get_close_matches

from attngen.errors import Source, SpecError
from attngen.ir.expr import SYMBOLS, Const, Expr, Load, Op, Sym, op, postorder, sym
from attngen.ir.nodes import Input, Router
from attngen.ir.roles import RESULT, Role, Scope, visible
from attngen.ir.text_expr import expr_text

WISH: dict[Role, str] = {
    "mask": "a mask is a condition that says which keys are visible: compare, or use attngen.where",
    "score": "a score is a number: write where(condition, score, -inf), or move the condition to the mask",
}
SHORT = 60


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(names)}" if names else "there are none"


def plural(count: int, one: str, many: str = "") -> str:
    """A count with its noun: 1 branch, 2 branches."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def shown(expr: Expr) -> str:
    """The expression, cut to fit into a message."""
    text = " ".join(expr_text(expr).split())
    return text if len(text) <= SHORT else text[: SHORT - 3] + "..."


def check_expr(
    expr: Expr, role: Role, scope: Scope, place: str, inputs: dict[str, Input], routers: dict[str, Router]
) -> None:
    """Raises `SpecError` naming the place where the expression is not legal there."""
    if not isinstance(expr, Expr):
        raise SpecError(f"{place}: {expr!r} is not an expression; wrap a literal in attngen.ir.expr.const")
    allowed = visible(role, scope)
    for node in postorder(expr):
        match node:
            case Sym(name=name):
                if name not in SYMBOLS or node.type != SYMBOLS[name]:
                    raise _error(place, f"{name!r} is not a symbol of type {node.type}", node)
                if name not in allowed:
                    raise _error(place, _misplaced(name, role, allowed), node)
            case Const():
                _check_literal(node, role, place)
            case Load() if role in ("head", "extent"):
                raise _error(
                    place, f"`{shown(node)}`: heads and extents are fixed at compile time; no input here", node
                )
            case Load(tensor=name) if name in routers:
                _check_class(node, routers[name], role, scope, place)
            case Load():
                _check_load(node, place, inputs)
            case Op(name=name, args=args):
                if name == "dim_softmax" and role != "feature":
                    raise _error(place, "dim_softmax stands only in the feature map of a view", node)
                if name == "uniform" and "kv" not in allowed:
                    raise _error(place, "uniform needs b, h, q and kv, which are not all known here", node)
                if name == "uniform_at":
                    raise _error(place, "uniform_at is what packed sequences are lowered to; write uniform", node)
                if op(name, *args).type != node.type:
                    raise _error(place, f"{name} is typed {node.type}; build operators with attngen.ir.expr.op", node)
    _check_type(expr, role, place)


def _check_type(expr: Expr, role: Role, place: str) -> None:
    wanted = RESULT.get(role, "float")
    if expr.type == wanted:
        return
    given = "a condition (bool)" if expr.type == "bool" else f"a number ({expr.type})"
    if wanted == "float" and expr.type == "int":
        hint = "; write to_float(...)"
    else:
        hint = f"; {WISH[role]}" if role in WISH else ""
    what = "a condition (bool)" if wanted == "bool" else f"a number ({wanted})"
    raise _error(place, f"`{shown(expr)}` is {given}, but {what} is needed here{hint}", expr)


def _check_literal(node: Const, role: Role, place: str) -> None:
    value = node.value
    kind = "bool" if isinstance(value, bool) else "int" if isinstance(value, int) else "float"
    if kind != node.type:
        raise _error(place, f"the literal {value!r} is typed {node.type}", node)
    if isinstance(value, float) and math.isnan(value):
        raise _error(place, "a NaN literal makes every result NaN; remove it", node)
    if isinstance(value, float) and math.isinf(value) and role in ("scale", "coefficient"):
        raise _error(place, f"a {role} is finite, got the literal {value!r}", node)
    if kind == "int" and not -(2**63) <= value < 2**63:
        raise _error(place, f"the literal {value!r} does not fit into 64 bits", node)


def _check_load(node: Load, place: str, inputs: dict[str, Input]) -> None:
    given = inputs.get(node.tensor)
    if given is None:
        if node.tensor in ("q", "k", "v"):
            raise _error(place, f"{node.tensor!r} is read through views, not by index; declare an input instead", node)
        raise _error(place, f"unknown input {node.tensor!r}; {suggest(node.tensor, inputs)}", node)
    if len(node.indices) != len(given.axes):
        axes = f" ({', '.join(given.axes)})" if given.axes else ""
        wanted = f"{plural(len(given.axes), 'index', 'indices')}{axes}" if given.axes else "no index: it is a number"
        raise _error(place, f"input {node.tensor!r} takes {wanted}, got {len(node.indices)}", node)
    if node.type != given.type:
        raise _error(place, f"input {node.tensor!r} holds {given.type}, but is read as {node.type}", node)
    for index in node.indices:
        if index.type != "int":
            raise _error(place, f"an index of {node.tensor!r} is a {index.type}; indices are integers", index)


def class_indices(router: Router) -> tuple[Expr, ...]:
    """The only indices with which the classes of a router are read."""
    blocks = (("q", router.query_block), ("kv", router.key_block))
    return (sym("b"), sym("h"), *(op("floordiv", sym(axis), size) for axis, size in blocks))


def _check_class(node: Load, router: Router, role: Role, scope: Scope, place: str) -> None:
    if role not in ("mask", "score", "join", "weight") or not scope.main:
        raise _error(place, f"router {router.name!r} classes the main keys; read it in their mask or score", node)
    if node.type != "int" or node.indices != class_indices(router):
        wanted = f"{router.name}[{', '.join(map(expr_text, class_indices(router)))}]"
        raise _error(place, f"`{shown(node)}`: the class of a router is read as {wanted}, an int", node)


def _misplaced(name: str, role: Role, allowed: frozenset[str]) -> str:
    if name in ("m", "mass") and role in ("phi", "psi", "finalize", "lse"):
        declared = "anchor" if name == "m" else "psi"
        return f"{name!r} is known only with {'an' if declared == 'anchor' else 'a'} {declared}; declare one"
    if name == "n_visible" and role == "mask":
        return "'n_visible' counts what the mask lets through, so the mask cannot use it"
    if "[" in name and name.split("[")[0] in ("q", "kv"):
        axis = name.split("[")[0]
        count = sum(other.startswith(f"{axis}[") for other in allowed)
        if count:
            return f"{name!r}: the coordinates of this grid end at {axis}[{count - 1}]"
        if axis in allowed:
            return (
                f"{name!r} is a coordinate on a grid, and these positions have none; use {axis!r}, or space=Grid(...)"
            )
    known = ", ".join(sorted(allowed)) or "none"
    return f"{name!r} is not known here; allowed: {known}"


def _error(place: str, message: str, node: Expr) -> SpecError:
    source: Source | None = node.source
    return SpecError(f"{place}: {message}", source=source)
