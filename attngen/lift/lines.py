"""Operators at the user's line: the tracer of the front end, with folding."""

from __future__ import annotations

from typing import Any

from attngen.errors import Source, SpecError
from attngen.frontend.dispatch import spell
from attngen.frontend.methods import METHODS
from attngen.frontend.scalar import Proxy
from attngen.frontend.spelling import FUNCTIONS
from attngen.frontend.tracer import Tracer
from attngen.ir.expr import Expr
from attngen.lift.blocked import Blocked
from attngen.lift.fold import fold


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
            raise Blocked(error.message, source=self.source) from None

    def error(self, message: str, source: Source | None = None) -> Any:
        """What the front end would raise becomes a reason."""
        return Blocked(message, source=source or self.source)

    def spelled(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Expr | None:
        """A pointwise function on expressions and numbers; None where the name has no spelling."""
        if name in ("max", "min"):
            name = f"{name}imum"
        function = FUNCTIONS.get(name) or METHODS.get(name)
        if function is None:
            return None
        given = [Proxy(self, a) if isinstance(a, Expr) else a for a in args]
        keywords = {key: Proxy(self, a) if isinstance(a, Expr) else a for key, a in options.items()}
        result = spell(self, name, function, given, keywords)
        return result.expr if isinstance(result, Proxy) else None
