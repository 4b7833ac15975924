"""What a backend is: one small object per target. Emitting, building and launching are separate things."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from attngen.codegen.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

Launch = Callable[["Tensor", "Tensor", "Tensor", "Sequence[Tensor]", "Sequence[float]"], "tuple[Tensor, Tensor | None]"]
"""launch(q, k, v, input tensors, scalars) -> (result, log-sum-exp or None), for the sizes it was prepared for."""


@dataclass(frozen=True, slots=True)
class Call:
    """The run-time facts of a launch: sizes, layout, and the tensors whose shapes and strides it is prepared for."""

    n_b: int
    n_h: int
    n_q: int
    n_k: int
    layout: str
    operands: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """Generated text with the name it should carry in messages."""

    name: str
    text: str


class Backend(Protocol):
    """A target. `supports` gives None, or the reason why this plan is not for it, as a sentence for the user."""

    name: str

    def supports(self, plan: Plan) -> str | None: ...

    def configs(self, plan: Plan) -> tuple[Any, ...]:
        """The free choices, best guess first; each has a text form by `str`."""
        ...

    def emit(self, plan: Plan, config: Any) -> SourceFile:
        """Pure: the same plan and config give the same text."""
        ...

    def build(self, plan: Plan, config: Any) -> Any:
        """The built kernel, from the cache where it holds one."""
        ...

    def prepare(self, built: Any, plan: Plan, call: Call) -> Launch: ...
