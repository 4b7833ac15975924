"""The Triton backend with the kernels of a bundle in place of the compiler."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from attngen.codegen.backend import BackwardLaunch, Call, Launch, SourceFile
from attngen.codegen.backends.triton.abi import parameters
from attngen.codegen.backends.triton.backend import FORWARD, Built, TritonBackend
from attngen.codegen.backends.triton.config import TritonConfig
from attngen.codegen.backends.triton.cubins import Cubins
from attngen.codegen.bundle.driver import Driver
from attngen.codegen.bundle.files import Bundle
from attngen.codegen.bundle.manifest import AGAIN, BundledKernel, BundledProblem
from attngen.codegen.lower.lowered import lowered
from attngen.codegen.plan import Plan
from attngen.codegen.plan_text import plan_text
from attngen.errors import BundleError, UnsupportedError

NO_BACKWARD = "this bundle holds no backward; call its kernel under torch.no_grad(), or use attngen.compile"


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
        signature = tuple(parameters(lowered(self.plan)).signature.items())
        if plan_text(self.plan) != self.problem.plan or signature != self._kernel(FORWARD).signature:
            raise BundleError(
                f"{self.bundle.directory}: attngen {self.bundle.manifest.attngen} built it, from another plan than "
                f"this version derives; {AGAIN}"
            )

    @property
    def name(self) -> str:
        return "triton"

    @cached_property
    def built(self) -> Built:
        """The forward."""
        kernel = self._kernel(FORWARD)
        runner = Cubins(kernel, self.bundle.read, self.driver)
        return Built({FORWARD: cast(Any, runner)}, TritonConfig(**kernel.config), self.bundle.directory)

    def supports(self, plan: Plan) -> str | None:
        return None

    def configs(self, plan: Plan) -> tuple[TritonConfig, ...]:
        return (self.built.config,)

    def emit(self, plan: Plan, config: TritonConfig) -> SourceFile:
        """The source that was built."""
        name = self._kernel(FORWARD).source
        return SourceFile(name, self.bundle.read(name).decode())

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
        return NO_BACKWARD

    def configs_backward(self, plan: Plan) -> tuple[TritonConfig, ...]:
        raise UnsupportedError(NO_BACKWARD)

    def emit_backward(self, plan: Plan, config: TritonConfig, wanted: frozenset[str]) -> SourceFile:
        raise UnsupportedError(NO_BACKWARD)

    def build_backward(self, plan: Plan, config: TritonConfig, wanted: frozenset[str]) -> Any:
        raise UnsupportedError(NO_BACKWARD)

    def prepare_backward(self, built: Any, plan: Plan, call: Call, wanted: frozenset[str]) -> BackwardLaunch:
        raise UnsupportedError(NO_BACKWARD)

    def _kernel(self, role: str) -> BundledKernel:
        found = [k for k in self.problem.kernels if (k.role, k.arch) == (role, self.arch)]
        if not found:
            raise BundleError(
                f"{self.bundle.directory}: has no {role} kernel of {self.problem.title} for {self.arch}; {AGAIN}"
            )
        return found[0]
