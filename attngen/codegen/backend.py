"""What a backend is: one small object per target. Emitting, building and launching are separate things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from attngen.codegen.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

Launch = Callable[..., "tuple[Tensor, Tensor | None, Tensor | None]"]
"""launch(q, k, v, input tensors, scalars, save=False) -> (result, log-sum-exp or None, rows or None).

It is prepared for the sizes of one call. `rows` (B, H, Nq, columns), float32 (float64 for float64), contiguous, is what
the backward of the same backend needs of each row; only with `save`."""

BackwardLaunch = Callable[..., "list[Tensor | None]"]
"""launch(dout, dlse or None, q, k, v, rows, input tensors, scalars) -> gradients of q, k, v and the input tensors.

Gradients have the shape, dtype and device of their tensor; None where none was wanted."""


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

    @property
    def name(self) -> str: ...

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

    def supports_backward(self, plan: Plan) -> str | None:
        """None, or the reason why this backend has no backward for a plan that it runs forward."""
        ...

    def configs_backward(self, plan: Plan) -> tuple[Any, ...]:
        """The free choices of the backward, best guess first."""
        ...

    def emit_backward(self, plan: Plan, config: Any, wanted: frozenset[str]) -> SourceFile:
        """The source of the backward. `wanted` names the input tensors whose gradient is asked for; what views read
        (q, k, v, ...) always gets one."""
        ...

    def build_backward(self, plan: Plan, config: Any, wanted: frozenset[str]) -> Any: ...

    def prepare_backward(self, built: Any, plan: Plan, call: Call, wanted: frozenset[str]) -> BackwardLaunch: ...
