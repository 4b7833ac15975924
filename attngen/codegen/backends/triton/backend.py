"""The Triton backend: generated Triton for NVIDIA's and AMD's devices, and for the CPU under Triton's interpreter."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from attngen.codegen import cache as store
from attngen.codegen.backend import BackwardLaunch, Call, Launch, SourceFile
from attngen.codegen.backends.triton.abi import Parameters, backward_parameters, parameters
from attngen.codegen.backends.triton.config import (
    GradientConfig,
    TritonConfig,
    default,
    default_backward,
    in_boxes,
)
from attngen.codegen.backends.triton.emit import emit
from attngen.codegen.backends.triton.emit_backward import KERNELS, emit_backward
from attngen.codegen.backends.triton.launch import prepare
from attngen.codegen.backends.triton.launch_backward import prepare_backward
from attngen.codegen.backends.triton.module import one_at_a_time
from attngen.codegen.backends.triton.support import backward_refusal, refusal
from attngen.codegen.backends.triton.variants import Variants
from attngen.codegen.fingerprint import package_fingerprint
from attngen.codegen.lower.lowered import lowered, lowered_backward, lowered_launch, lowered_wanted
from attngen.codegen.plan import Plan
from attngen.codegen.precision import bare_tf32
from attngen.ir.text import text
from attngen.templates import fingerprint

FORWARD = "forward"
SOURCE = "kernels.py"
log = logging.getLogger("attngen.triton")


@dataclass(frozen=True, slots=True)
class Built:
    """The loaded kernels of a module by name, the config they were made with, and where their files are."""

    kernels: dict[str, Variants]
    config: Any
    directory: Path


@dataclass(frozen=True, slots=True)
class TritonBackend:
    """Generated Triton for one type of device. `major`: of the compute capability of a GPU that need not be here; else
    configs are for the one at hand."""

    device: str = "cuda"
    major: int | None = None

    @property
    def name(self) -> str:
        return "triton"

    def supports(self, plan: Plan) -> str | None:
        return refusal(plan, self.device)

    def configs(self, plan: Plan) -> tuple[TritonConfig, ...]:
        if self.device == "cpu":
            # Under the interpreter every tile costs about the same.
            target = lowered(plan)
            small = replace(default(target), block_m=32, block_n=32, box_m=(), box_n=())
            return (in_boxes(small, target),)
        return (self._as_told(default(lowered(plan), self._capability())),)

    def _capability(self) -> int:
        if self.major is not None:
            return self.major
        import torch

        return torch.cuda.get_device_capability()[0]

    def _as_told(self, config: TritonConfig) -> TritonConfig:
        """The config on this machine: torch says whether tf32 will do for float32."""
        import torch

        if bare_tf32(self.device):
            config = replace(config, precision="tf32")
        # The instruction for single elements is one of NVIDIA's.
        return config if torch.version.hip is None else replace(config, lookups="load")

    def emit(self, plan: Plan, config: TritonConfig) -> SourceFile:
        return emit(lowered(plan), config)

    def build(self, plan: Plan, config: TritonConfig) -> Built:
        """The kernel's source from the cache, or written into it; its binaries are built when they are first run."""
        given = parameters(lowered(plan))
        return self._build(plan, config, lambda: self.emit(plan, config), {FORWARD: (given, config)})

    def _build(
        self, plan: Plan, config: Any, emitted: Callable[[], SourceFile],
        kernels: dict[str, tuple[Parameters, TritonConfig]], *more: str,
    ) -> Built:  # fmt: skip
        entry = " ".join((*kernels, *more))
        parts = {
            "entry": entry,
            "spec": text(replace(plan.spec, name="")),
            "problem": repr(plan.problem),
            "config": str(config),
            "target": "triton",
            "templates": fingerprint("triton"),
            "codegen": package_fingerprint(),
        }

        def builder(directory: Path) -> None:
            store.refuse_if_jit_disabled(f"the kernel {plan.spec.name!r} ({plan.problem.dtype})")
            log.info("writing %s of %s (%s, %s)", entry, plan.spec.name, plan.problem.dtype, config)
            (directory / SOURCE).write_text(emitted().text, encoding="utf-8")

        found = store.build_once(store.key(parts), builder, parts)
        path = found.path(SOURCE)
        loaded = {name: Variants(path, name, given, own) for name, (given, own) in kernels.items()}
        return Built(loaded, config, found.directory)

    def prepare(self, built: Built, plan: Plan, call: Call) -> Launch:
        make = partial(prepare, built.kernels[FORWARD], built.config)
        return one_at_a_time(lowered_launch(plan, call, make))

    def supports_backward(self, plan: Plan) -> str | None:
        return backward_refusal(plan)

    def configs_backward(self, plan: Plan) -> tuple[GradientConfig, ...]:
        if self.device == "cpu":
            small = replace(self.configs(plan)[0], precision="ieee")
            runs = replace(small, box_m=(), box_n=())
            return (GradientConfig(small, in_boxes(runs, lowered(plan), by_keys=True)),)
        found = default_backward(lowered(plan), self._capability())
        return (GradientConfig(self._as_told(found.queries), self._as_told(found.keys)),)

    def emit_backward(self, plan: Plan, config: GradientConfig, wanted: frozenset[str]) -> SourceFile:
        return emit_backward(lowered(plan), config, lowered_wanted(plan, wanted))

    def build_backward(self, plan: Plan, config: GradientConfig, wanted: frozenset[str]) -> Built:
        """The source of the backward, as `build` does for the forward."""
        given = backward_parameters(lowered(plan), lowered_wanted(plan, wanted))
        kernels = {name: (given, config.of(name)) for name in KERNELS}
        return self._build(plan, config, lambda: self.emit_backward(plan, config, wanted), kernels, *sorted(wanted))

    def prepare_backward(self, built: Built, plan: Plan, call: Call, wanted: frozenset[str]) -> BackwardLaunch:
        make = partial(prepare_backward, built.kernels, built.config, wanted=lowered_wanted(plan, wanted))
        return one_at_a_time(lowered_backward(plan, call, make, wanted))
