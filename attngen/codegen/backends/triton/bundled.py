"""The Triton backend with the kernels of a bundle in place of the compiler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from attngen.codegen.backend import BackwardLaunch, Call, Launch, SourceFile
from attngen.codegen.backends.triton.abi import Parameters, backward_parameters, parameters
from attngen.codegen.backends.triton.backend import FORWARD, Built, TritonBackend
from attngen.codegen.backends.triton.config import GradientConfig, TritonConfig
from attngen.codegen.backends.triton.cubins import Cubins
from attngen.codegen.backends.triton.emit_backward import KERNELS
from attngen.codegen.backends.triton.support import backward_refusal
from attngen.codegen.backends.triton.wanted import smallest, wanted_sets
from attngen.codegen.bundle.driver import Driver
from attngen.codegen.bundle.files import Bundle
from attngen.codegen.bundle.manifest import AGAIN, BundledKernel, BundledProblem
from attngen.codegen.lower.lowered import lowered, lowered_wanted
from attngen.codegen.plan import Plan
from attngen.codegen.plan_text import plan_text
from attngen.errors import BundleError, UnsupportedError

NO_BACKWARD = "this bundle holds no backward: {}; call its kernel under torch.no_grad(), or use attngen.compile"


@dataclass(frozen=True, slots=True)
class BundledBackward:
    """One of the backwards of a bundle. `wanted`: the inputs whose gradients it computes."""

    built: Built
    wanted: frozenset[str]


@dataclass(frozen=True)
class BundledBackend:
    """The kernels of one problem of a bundle for one architecture. `plan` is derived anew, as the one that was built.

    Raises `BundleError` where this version of attngen derives another one: then it would launch the kernels wrongly.
    """

    bundle: Bundle
    problem: BundledProblem
    arch: str
    plan: Plan
    driver: Driver

    def __post_init__(self) -> None:
        if plan_text(self.plan) != self.problem.plan:
            raise self._other_plan()
        self._kernel(FORWARD, {}, parameters(lowered(self.plan)))

    @property
    def name(self) -> str:
        return "triton"

    @cached_property
    def built(self) -> Built:
        """The forward."""
        kernel = self._kernel(FORWARD, {})
        return Built({FORWARD: self._runner(kernel)}, TritonConfig(**kernel.config), self.bundle.directory)

    @cached_property
    def backwards(self) -> dict[frozenset[str], BundledBackward]:
        """The backwards by what they compute gradients of; none where they were left out."""
        if not any(kernel.arch == self.arch and kernel.role in KERNELS for kernel in self.problem.kernels):
            return {}
        return {wanted: self._backward(wanted) for wanted in wanted_sets(self.plan)}

    def supports(self, plan: Plan) -> str | None:
        return None

    def configs(self, plan: Plan) -> tuple[TritonConfig, ...]:
        return (self.built.config,)

    def emit(self, plan: Plan, config: TritonConfig) -> SourceFile:
        """The source that was built."""
        return self._source(FORWARD, {})

    def build(self, plan: Plan, config: TritonConfig) -> Built:
        return self.built

    def prepare(self, built: Built, plan: Plan, call: Call) -> Launch:
        """The launch. A kernel that writes the log-sum-exp serves calls that do not ask for it."""
        launch = TritonBackend(self.driver.device_type).prepare(built, self.plan, call)
        if plan.problem.return_lse == self.plan.problem.return_lse:
            return launch

        def without_lse(*arguments: Any, **options: Any) -> Any:
            out, _, rows = launch(*arguments, **options)
            return out, None, rows

        return without_lse

    def supports_backward(self, plan: Plan) -> str | None:
        if self.backwards:
            return None
        return NO_BACKWARD.format(backward_refusal(self.plan) or "it was built without one (--forward-only)")

    def configs_backward(self, plan: Plan) -> tuple[GradientConfig, ...]:
        return (self._fitting(frozenset()).built.config,)

    def emit_backward(self, plan: Plan, config: GradientConfig, wanted: frozenset[str]) -> SourceFile:
        """The source that was built."""
        return self._source(KERNELS[0], {"wanted": sorted(self._fitting(wanted).wanted)})

    def build_backward(self, plan: Plan, config: GradientConfig, wanted: frozenset[str]) -> BundledBackward:
        """The backward with the fewest gradients beside those that are wanted."""
        return self._fitting(wanted)

    def prepare_backward(
        self, built: BundledBackward, plan: Plan, call: Call, wanted: frozenset[str]
    ) -> BackwardLaunch:
        """The launch. It serves calls with the log-sum-exp and without."""
        return TritonBackend(self.driver.device_type).prepare_backward(built.built, self.plan, call, built.wanted)

    def _backward(self, wanted: frozenset[str]) -> BundledBackward:
        given, options = (
            backward_parameters(lowered(self.plan), lowered_wanted(self.plan, wanted)),
            {"wanted": sorted(wanted)},
        )
        kernels = {name: self._kernel(name, options, given) for name in KERNELS}
        config = GradientConfig(*(TritonConfig(**kernels[name].config) for name in ("queries", "keys")))
        runners = {name: self._runner(kernel) for name, kernel in kernels.items()}
        return BundledBackward(Built(runners, config, self.bundle.directory), wanted)

    def _fitting(self, wanted: frozenset[str]) -> BundledBackward:
        reason = self.supports_backward(self.plan)
        if reason is not None:
            raise UnsupportedError(reason)
        return self.backwards[smallest(self.backwards, wanted)]

    def _runner(self, kernel: BundledKernel) -> Any:
        return Cubins(kernel, self.bundle.read, self.driver)

    def _source(self, role: str, options: Mapping[str, Any]) -> SourceFile:
        name = self._kernel(role, options).source
        return SourceFile(name, self.bundle.read(name).decode())

    def _kernel(self, role: str, options: Mapping[str, Any], given: Parameters | None = None) -> BundledKernel:
        """One kernel. `given`: what a launch will pass, held against what the kernel was built to take."""
        asked = (role, self.arch, dict(options))
        found = [kernel for kernel in self.problem.kernels if (kernel.role, kernel.arch, dict(kernel.options)) == asked]
        if not found:
            raise BundleError(
                f"{self.bundle.directory}: has no {role} kernel of {self.problem.title} for {self.arch}; {AGAIN}"
            )
        if given is not None and tuple(given.signature.items()) != found[0].signature:
            raise self._other_plan()
        return found[0]

    def _other_plan(self) -> BundleError:
        return BundleError(
            f"{self.bundle.directory}: attngen {self.bundle.manifest.attngen} built it, from another plan than "
            f"this version derives; {AGAIN}"
        )
