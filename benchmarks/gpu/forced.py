"""A kernel with a config of one's choice, forward or backward, for the tensors of one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attngen.codegen.backend import Backend, Call
from attngen.codegen.backends.triton.backend import TritonBackend
from attngen.codegen.plan import Plan, make_plan
from attngen.errors import UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor

    from attngen import Kernel

NO_CAPTURES: frozenset[str] = frozenset()
"""Gradients are those of q, k and v alone, as for the peers."""


@dataclass(frozen=True, slots=True)
class Forced:
    """The plan of a call on the Triton backend, whatever the library would choose for it."""

    plan: Plan
    backend: Backend
    call: Call
    operands: tuple[Tensor, Tensor, Tensor]
    inputs: tuple[Tensor, ...]
    scalars: tuple[Any, ...]

    @classmethod
    def of(cls, kernel: Kernel, q: Tensor, k: Tensor, v: Tensor, **given: Any) -> Forced:
        """Raises `UnsupportedError` with the backend's reason where it does not take the plan."""
        engine = kernel.engine()
        tensors, ints, floats = kernel._values(given)
        plan = make_plan(engine.spec, engine.problem(q, k, v, tensors, False))
        backend: Backend = TritonBackend(q.device.type)
        reason = backend.supports(plan)
        if reason is not None:
            raise UnsupportedError(reason)
        sizes = engine.sizes(q, k, v, tensors)
        call = Call(sizes.n_b, sizes.n_h, sizes.n_q, sizes.n_k, kernel.layout, (q, k, v, *tensors))
        return cls(plan, backend, call, (q, k, v), tuple(tensors), (*ints, *floats))

    def forward(self, config: Any) -> Callable[[], Tensor]:
        """The launch of the forward; it is built on the first call."""
        launch = self.backend.prepare(self.backend.build(self.plan, config), self.plan, self.call)
        return lambda: launch(*self.operands, self.inputs, self.scalars)[0]

    def backward(self, forward: Any, config: Any, dout: Tensor) -> Callable[[], list[Tensor | None]]:
        """The launch of the backward after one forward. Raises `UnsupportedError` where there is none."""
        self.refuse_backward()
        launch = self.backend.prepare(self.backend.build(self.plan, forward), self.plan, self.call)
        _, _, rows = launch(*self.operands, self.inputs, self.scalars, True)
        built = self.backend.build_backward(self.plan, config, NO_CAPTURES)
        run = self.backend.prepare_backward(built, self.plan, self.call, NO_CAPTURES)
        return lambda: run(dout, None, *self.operands, rows, self.inputs, self.scalars)[:3]

    def refuse_backward(self) -> None:
        """Raises `UnsupportedError` where the backend has no backward for the plan."""
        reason = self.backend.supports_backward(self.plan)
        if reason is not None:
            raise UnsupportedError(reason)
