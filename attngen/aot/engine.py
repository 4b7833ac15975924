"""The engine of a bundle: from the tensors of a call to a launch of one of its kernels. It compiles nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attngen.aot.refusals import arch_for, entry_for
from attngen.codegen.backends.triton.bundled import BundledBackend
from attngen.codegen.plan import make_plan
from attngen.codegen.saved import saved_columns
from attngen.errors import InputError
from attngen.pipeline import Compiled
from attngen.runtime.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from attngen.autotune.situation import Situation
    from attngen.codegen.bundle.driver import Driver
    from attngen.codegen.bundle.files import Bundle
    from attngen.codegen.bundle.manifest import BundledProblem
    from attngen.codegen.problem import Problem
    from attngen.ir.nodes import Layout, Spec


class BundleEngine(Engine):
    """Runs the kernels of a bundle, as an engine runs those that it compiles."""

    def __init__(self, bundle: Bundle, spec: Spec, layout: Layout, driver: Driver) -> None:
        super().__init__(spec, layout, None, "off")
        self.bundle, self.driver = bundle, driver
        self._backends: dict[tuple[Problem, str], BundledBackend] = {}

    def compiled(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        inputs: Sequence[Tensor],
        return_lse: bool,
        gradients: bool = False,
        situation: Situation | None = None,
    ) -> Compiled:
        """The kernel of the bundle for these tensors. Raises for what it was not built for, naming the nearest."""
        self._check_lse(return_lse)
        backend = self._for_call(q, self.problem(q, k, v, inputs, return_lse), gradients)
        plan = replace(backend.plan, problem=replace(backend.plan.problem, return_lse=return_lse))
        return Compiled(plan, backend, backend.built.config, backend.built, ())

    def saved_columns(self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], return_lse: bool) -> int:
        """The columns of the rows that `forward` saves for these tensors, which may be traced ones."""
        self._check_lse(return_lse)
        return saved_columns(self._for_call(q, self.traced_problem(q, k, v, inputs, return_lse), True).plan)

    def _for_call(self, q: Tensor, problem: Problem, gradients: bool) -> BundledBackend:
        arch = arch_for(self.bundle, self.driver, q.device)
        backend = self._backend(entry_for(self.bundle, problem), arch)
        reason = backend.supports_backward(backend.plan) if gradients else None
        if reason is not None:
            raise InputError(f"q, k, v: require grad, and {reason}")
        return backend

    def _backend(self, entry: BundledProblem, arch: str) -> BundledBackend:
        place = (entry.problem, arch)
        found = self._backends.get(place)
        if found is None:
            plan = make_plan(self.spec, entry.problem)
            found = self._backends[place] = BundledBackend(self.bundle, entry, arch, plan, self.driver)
        return found
