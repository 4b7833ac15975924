"""Operators at the user's line: the tracer of the front end, with folding."""

from __future__ import annotations

from typing import Any

from attngen.errors import LiftError, Source, SpecError
from attngen.frontend.dispatch import spell
from attngen.frontend.methods import METHODS
from attngen.frontend.scalar import Proxy
from attngen.frontend.spelling import FUNCTIONS
from attngen.frontend.tracer import Tracer
from attngen.ir.expr import Expr
from attngen.lift.fold import fold

ALIASES = {"max": "maximum", "min": "minimum", "sym_sqrt": "sqrt", "sym_float": "float", "sym_max": "maximum",
           "sym_min": "minimum", "nan_to_num": "nan_to_num"}  # fmt: skip


class Lines(Tracer):
    """Spells pointwise functions in operators of the IR, as the tracer of masks and scores does."""

    def __init__(self) -> None:
        super().__init__("function", None)
        self.source: Source | None = None

    def op(self, name: str, *args: Expr) -> Expr:
        """The operator, folded, at the line that is read now."""
        try:
            return fold(name, args, self.source)
        except SpecError as error:
            raise LiftError(error.message, source=self.source) from None

    def error(self, message: str, source: Source | None = None) -> Any:
        """What the front end would raise becomes a reason."""
        return LiftError(message, source=source or self.source)

    def knows(self, name: str) -> bool:
        """Whether a pointwise function has a spelling."""
        return name in FUNCTIONS or name in METHODS or name in ALIASES

    def spelled(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Expr | None:
        """A pointwise function on expressions and numbers; None where the name has no spelling."""
        if name == "nan_to_num":  # a row without keys is 0 in a kernel
            return args[0] if isinstance(args[0], Expr) else None
        name = ALIASES.get(name, name)
        function = FUNCTIONS.get(name) or METHODS.get(name)
        if function is None:
            return None
        given = [Proxy(self, a) if isinstance(a, Expr) else a for a in args]
        keywords = {key: Proxy(self, a) if isinstance(a, Expr) else a for key, a in options.items()}
        result = spell(self, name, function, given, keywords)
        return result.expr if isinstance(result, Proxy) else None
