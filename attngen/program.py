"""What masks, scores and weights have in common: a traced function, or a text, that can be combined with others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import ClassVar, Self

from attngen.arguments import refuse
from attngen.errors import SpecError
from attngen.frontend import Role, Traced, combine, trace
from attngen.ir.expr import Expr
from attngen.texts import parsed


@dataclass(frozen=True, slots=True)
class Program:
    """An immutable expression with its live inputs. `grid` holds the dimensions whose coordinates it reads, if any."""

    traced: Traced
    name: str
    grid: tuple[int, ...] = ()

    kind: ClassVar[str]
    role: ClassVar[Role]

    @classmethod
    def of(cls, value: object, name: str | None = None, grid: tuple[int, ...] = ()) -> Self:
        """The program of a function (any subset of the symbols as parameters), of a text, or of one itself."""
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            if value in import_module(f"attngen.{cls.kind}s").__all__:
                raise refuse(cls.kind, value, f"an expression, or the object that attngen.{cls.kind}s.{value}() makes")
            return cls(parsed(value, cls.kind), name or value, grid)
        if isinstance(value, Program | type) or not callable(value):
            raise refuse(cls.kind, value, f"a function, a text or an object of attngen.{cls.kind}s")
        own = str(getattr(value, "__name__", cls.kind))
        if getattr(value, "__module__", None) == f"attngen.{cls.kind}s.{own}":
            raise refuse(cls.kind, value, f"what it returns; write {cls.kind}s.{own}(...)")
        role = cls.role.on_grid(len(grid)) if grid else cls.role
        return cls(trace(value, role), name or own, grid)

    def joined(self, other: object, name: str, merge: Callable[[Expr, Expr], Expr], swap: bool = False) -> Self:
        """The program of `merge(self, other)`, over the inputs of both; swapped: of `merge(other, self)`."""
        that = self.of(other, grid=self.grid)
        if self.grid and that.grid and self.grid != that.grid:
            raise SpecError(f"{self.kind}: {self.name} is on the grid {self.grid}, {that.name} on {that.grid}; use one")
        one, two = (that, self) if swap else (self, that)
        (a, b), inputs, bindings = combine(one.traced, two.traced)
        joined = Traced(merge(a, b), inputs, bindings)
        return type(self)(joined, name.format(one.name, two.name), self.grid or that.grid)

    def called(self, name: str) -> Self:
        """The same under another name."""
        return replace(self, name=name)

    def changed(self, name: str, change: Callable[[Expr], Expr]) -> Self:
        """The program of `change(self)`."""
        return type(self)(replace(self.traced, expr=change(self.traced.expr)), name, self.grid)

    def __bool__(self) -> bool:
        raise SpecError(
            f"{self.kind} {self.name}: is neither true nor false; join masks with &, | and ~, not and, or, not"
        )

    def __repr__(self) -> str:
        return f"<attngen {self.kind} {self.name}>"
