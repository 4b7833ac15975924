"""Every exception that attngen raises on purpose.

A message says what was given, what is allowed and what to do. Where the cause is a line of the user's own code the
error carries a `Source`, and the message ends with that line and a caret under the expression.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """Where in the user's code an expression was written. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    end_column: int
    text: str

    def caret(self) -> str:
        """`file:line`, and, where the text is known, the source line with a caret under the expression."""
        place = f'  File "{self.file}", line {self.line}'
        if not self.text:
            return place
        width = max(1, self.end_column - self.column)
        marker = " " * (self.column - 1) + "^" * width
        return f"{place}\n    {self.text}\n    {marker}"


class AttngenError(Exception):
    """The base of every attngen error; catch it to catch them all."""

    source: Source | None = None

    @property
    def message(self) -> str:
        """The sentence, without the user's line."""
        return str(self.args[0]) if self.args else ""


class LocatedError(AttngenError):
    """An error with a cause in the user's code: `source` is the line, and the text ends with it."""

    def __init__(self, message: str, *, source: Source | None = None) -> None:
        super().__init__(message)
        self.source = source

    def __str__(self) -> str:
        return self.message if self.source is None else f"{self.message}\n{self.source.caret()}"


class SpecError(LocatedError):
    """The definition of the mechanism is wrong: a type, a symbol, an arity, an illegal parameter."""


class TraceError(SpecError):
    """A Python function could not be read as an expression."""


class ParseError(SpecError):
    """A text form could not be parsed."""


class BoundsError(SpecError):
    """An index into a captured tensor can leave it; the message holds the proven range."""


class LiftError(LocatedError):
    """An attention in a plain PyTorch function could not be lifted: the operation in the way, and what lifts instead.

    Raised under `fullgraph=True`; else it is a line of the log, and PyTorch runs the function as it was.
    """


class UnsupportedError(LocatedError, NotImplementedError):
    """The spec is legal, but no backend that is available lowers it; the message lists each backend's reason."""


class InputError(AttngenError, ValueError):
    """A tensor or an option given to a call does not fit: rank, dtype, device, shape, name.

    No constructor of its own, so that torch.compile can trace through raising it.
    """


class BuildError(AttngenError):
    """A generated source did not compile; the message shows the generated line and the command."""


class CacheError(AttngenError):
    """The cache directory cannot be used at all. A damaged entry is never an error: it is rebuilt."""


class BundleError(AttngenError):
    """A bundle of kernels built ahead of time cannot be used: damaged, of another format or version, or without what
    the call needs on its device; the message says what it was built for."""
