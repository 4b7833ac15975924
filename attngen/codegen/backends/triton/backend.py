"""The Triton backend: generated Triton for NVIDIA's and AMD's devices, and for the CPU under Triton's interpreter."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from attngen.codegen import cache as store
from attngen.codegen.backend import BackwardLaunch, Call, Launch, SourceFile
from attngen.codegen.backends.triton.abi import parameters
from attngen.codegen.backends.triton.config import TritonConfig, default
from attngen.codegen.backends.triton.emit import emit
from attngen.codegen.backends.triton.launch import prepare
from attngen.codegen.backends.triton.support import refusal
from attngen.codegen.backends.triton.variants import Variants
from attngen.codegen.fingerprint import package_fingerprint
from attngen.codegen.lower.lowered import lowered, lowered_launch
from attngen.codegen.plan import Plan
from attngen.errors import UnsupportedError
from attngen.ir.text import text
from attngen.templates import fingerprint

FORWARD = "forward"
NO_BACKWARD = "gradients have no Triton kernel yet"
log = logging.getLogger("attngen.triton")


@dataclass(frozen=True, slots=True)
class Built:
    """A loaded kernel, the config it was made with, and where its files are."""

    variants: Variants
    config: TritonConfig
    directory: Path


@dataclass(frozen=True, slots=True)
class TritonBackend:
    """Generated Triton for one type of device."""

    device: str = "cuda"

    @property
    def name(self) -> str:
        return "triton"

    def supports(self, plan: Plan) -> str | None:
        return refusal(plan, self.device)

    def configs(self, plan: Plan) -> tuple[TritonConfig, ...]:
        if self.device == "cpu":
            # Under the interpreter every tile costs about the same.
            return (replace(default(lowered(plan)), block_m=32, block_n=32),)
        import torch

        found = default(lowered(plan), torch.cuda.get_device_capability()[0])
        # The instruction for single elements is one of NVIDIA's.
        return (found if torch.version.hip is None else replace(found, lookups="load"),)

    def emit(self, plan: Plan, config: TritonConfig) -> SourceFile:
        return emit(lowered(plan), config)

    def build(self, plan: Plan, config: TritonConfig) -> Built:
        """The kernel's source from the cache, or written into it; its binaries are built when they are first run."""
        parts = {
            "entry": FORWARD,
            "spec": text(replace(plan.spec, name="")),
            "problem": repr(plan.problem),
            "config": str(config),
            "target": "triton",
            "templates": fingerprint("triton"),
            "codegen": package_fingerprint(),
        }

        def builder(directory: Path) -> None:
            store.refuse_if_jit_disabled(f"the kernel {plan.spec.name!r} ({plan.problem.dtype})")
            log.info("writing the kernel of %s (%s, %s)", plan.spec.name, plan.problem.dtype, config)
            (directory / "forward.py").write_text(self.emit(plan, config).text, encoding="utf-8")

        found = store.build_once(store.key(parts), builder, parts)
        variants = Variants(found.path("forward.py"), FORWARD, parameters(lowered(plan)), config)
        return Built(variants, config, found.directory)

    def prepare(self, built: Built, plan: Plan, call: Call) -> Launch:
        make = partial(prepare, built.variants, built.config)
        return lowered_launch(plan, call, make, (built.config.block_m, 1))

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
