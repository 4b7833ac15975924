"""Masks, scores and the like given as text: `"kv < lengths[b]"`. A name that is no symbol is an input of the call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attngen.errors import ParseError
from attngen.frontend import Binding, Bindings, Traced
from attngen.ir.expr import Expr, Sym, loads
from attngen.ir.nodes import Input
from attngen.ir.ops import Type
from attngen.ir.parse_expr import parse_expr

AXES = ("b", "h", "q", "kv")


class Every(Mapping[str, Type]):
    """Every name, with one type."""

    def __init__(self, type: Type) -> None:
        self.type = type

    def __contains__(self, name: object) -> bool:
        return True

    def __getitem__(self, name: str) -> Type:
        return self.type

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def parsed(text: str, kind: str) -> Traced:
    """The expression of a text, with the inputs that it reads; they have no bindings: each call gives them.

    Inputs are numbers (`n`) or tensors (`gate[b, h, q]`); in a mask they hold integers, elsewhere floats, unless the
    text says otherwise (`float:gate[h]`). Raises `ParseError` with a caret.
    """
    expr = parse_expr(text, Every("int" if kind == "mask" else "float"), f"<{kind}>")
    if (expr.type == "bool") != (kind == "mask"):
        given, wanted = ("a number", "a condition") if kind == "mask" else ("a condition", "a number")
        raise ParseError(f"{kind}: {text!r} is {given}; it must be {wanted}")
    return Traced(expr, tuple(_inputs(expr, kind)), Bindings[Binding]())


def _inputs(expr: Expr, kind: str) -> Iterator[Input]:
    found: dict[str, Input] = {}
    for node in loads(expr):
        axes = tuple(_axis(index) for index in node.indices)
        differentiable = bool(axes) and node.type == "float"
        known = found.setdefault(node.tensor, Input(node.tensor, axes, node.type, grad=differentiable))
        if len(known.axes) != len(axes) or known.type != node.type:
            raise ParseError(f"{kind}: {node.tensor!r} is read with {len(known.axes)} and with {len(axes)} indices")
        if known.axes != axes:
            merged = tuple(a if a == b else "?" for a, b in zip(known.axes, axes, strict=True))
            found[node.tensor] = Input(node.tensor, merged, node.type, known.grad)
    yield from found.values()


def _axis(index: Expr) -> str:
    return index.name if isinstance(index, Sym) and index.name in AXES else "?"


__all__ = ["parsed"]
