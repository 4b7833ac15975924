"""The mask of a library or of a user: a boolean function of positions, closed under `&`, `|` and `~`."""

from __future__ import annotations

from typing import Any

from attngen.frontend import MASK
from attngen.ir.expr import Expr, const, op
from attngen.program import Program


class Mask(Program):
    """True where a query sees a key. A key that is not seen is absent: it has weight 0 under every normalizer.

    Combine masks with each other, and with plain mask functions: `causal() & sliding_window(256) | sink(4)`,
    `~document(ids)`, `causal() & (lambda b, kv: kv < lengths[b])`.
    """

    __slots__ = ()
    kind = "mask"
    role = MASK

    def __and__(self, other: Any) -> Mask:
        if isinstance(other, Mask) and const(True) in (self.traced.expr, other.traced.expr):
            return other if self.traced.expr == const(True) else self
        return self.joined(other, "{} & {}", _and)

    def __rand__(self, other: Any) -> Mask:
        return self.joined(other, "{} & {}", _and, swap=True)

    def __or__(self, other: Any) -> Mask:
        return self.joined(other, "({} | {})", _or)

    def __ror__(self, other: Any) -> Mask:
        return self.joined(other, "({} | {})", _or, swap=True)

    def __invert__(self) -> Mask:
        return self.changed(f"~({self.name})", lambda mask: op("not", mask))


def _and(a: Expr, b: Expr) -> Expr:
    return op("and", a, b)


def _or(a: Expr, b: Expr) -> Expr:
    return op("or", a, b)
