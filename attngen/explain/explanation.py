"""The facts of a call as values. `str` of an `Explanation` is the page that people read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attngen.codegen.analysis import Statistics
    from attngen.codegen.analysis.boxes import BoxVisits


@dataclass(frozen=True, slots=True)
class Choice:
    """The backend, why the others are not it, its config and the family of its loop."""

    backend: str
    others: tuple[tuple[str, str], ...]
    config: str
    loop: str


@dataclass(frozen=True, slots=True)
class KeySetFacts:
    """What is known about one key set of one branch.

    `visited` and `full` are the key ranges of a query tile as text, where `form` is "closed form". `pairs` bounds the
    visible pairs over all batches and heads; `row_keys` the keys of a row, where they are known. `tile` and `tiles` are
    None where the chosen backend has no tiles. `shapes`: on a grid, what tiles of every shape would visit, the best
    first; the kernel's own is `box`, where its tiles are boxes.
    """

    title: str
    mask: str
    form: str
    visited: tuple[str, ...]
    full: tuple[str, ...]
    patterns: str
    rows: str
    pairs: tuple[int, int]
    row_keys: tuple[int, int] | None
    loads: tuple[tuple[str, str], ...]
    normalizer: str
    tile: tuple[int, int] | None
    tiles: Statistics | None
    shapes: tuple[BoxVisits, ...] = ()
    box: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """Costs of the call. FLOPs count the two products, 2 (D + Dv) for a pair; `useful` on visible pairs alone (bounds),
    `visited` on every pair of a visited tile. `bytes` is every operand read once and the result written once."""

    useful: tuple[float, float]
    visited: float
    bytes: int
    thread_memory: int | None

    @property
    def intensity(self) -> float:
        """Useful FLOPs for each byte."""
        return sum(self.useful) / 2 / max(1, self.bytes)


@dataclass(frozen=True, slots=True)
class Roofline:
    """The least time in which a GPU could do the call, in seconds, and the unit that it would wait for."""

    device: str
    seconds: float
    bound: str


@dataclass(frozen=True, slots=True)
class InputFacts:
    """A run-time input: what it is, and the path that it is read through at every call."""

    name: str
    what: str
    path: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that is known about one call of a kernel. Print it."""

    name: str
    call: str
    choice: Choice
    keysets: tuple[KeySetFacts, ...]
    work: Work
    rooflines: tuple[Roofline, ...]
    inputs: tuple[InputFacts, ...]

    def with_paths(self, bindings: Mapping[str, Any]) -> Explanation:
        """The same with the paths of captured inputs."""
        given = (replace(i, path=bindings[i.name].path) if i.name in bindings else i for i in self.inputs)
        return replace(self, inputs=tuple(given))

    def __str__(self) -> str:
        from attngen.explain.page import page

        return page(self)

    def __rich__(self) -> Any:
        from rich.text import Text

        return Text(str(self))
