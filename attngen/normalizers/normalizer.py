"""The normalizer of a library or of a user: a declaration of the IR with the inputs that it reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

from attngen.frontend import Binding, Bindings, Traced
from attngen.ir.expr import Expr
from attngen.ir.nodes import Input
from attngen.ir.normalizer import Chained
from attngen.ir.normalizer import Normalizer as Declaration


@dataclass(frozen=True, slots=True)
class Normalizer:
    """How the scores of a row become weights: `ir` declares it, everything else is derived from the declaration."""

    ir: Declaration
    inputs: tuple[Input, ...] = ()
    bindings: Bindings[Binding] = field(default_factory=Bindings)

    def parts(self) -> tuple[Traced, ...]:
        """Every expression of the declaration with the inputs, in a fixed order."""
        return tuple(Traced(expr, self.inputs, self.bindings) for expr in _exprs(self.ir))

    def declared_with(self, exprs: Iterator[Expr]) -> Declaration:
        """The declaration with the next expressions in place of `parts()`."""
        declared: Declaration = _replaced(self.ir, exprs)
        return declared

    def __repr__(self) -> str:
        return f"<attngen normalizer {self.ir.name}>"


def _exprs(node: Declaration) -> Iterator[Expr]:
    if isinstance(node, Chained):
        for one in node.passes:
            yield from _exprs(one)
    for each in fields(node):
        value = getattr(node, each.name)
        if isinstance(value, Expr):
            yield value


def _replaced(node: Any, exprs: Iterator[Expr]) -> Any:
    if isinstance(node, Chained):
        return replace(node, passes=tuple(_replaced(one, exprs) for one in node.passes))
    given = [each.name for each in fields(node) if isinstance(getattr(node, each.name), Expr)]
    return replace(node, **{name: next(exprs) for name in given})
