"""The CPU backend: generated C++ for every Streaming normalizer, built by the machine's compiler."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from attngen.codegen import cache as store
from attngen.codegen.backend import BackwardLaunch, Call, Launch, SourceFile
from attngen.codegen.backends.cpu import compiler, isa
from attngen.codegen.backends.cpu.config import CpuConfig, default, default_backward
from attngen.codegen.backends.cpu.emit import emit
from attngen.codegen.backends.cpu.emit_backward import emit_backward
from attngen.codegen.backends.cpu.launch import prepare
from attngen.codegen.backends.cpu.launch_backward import prepare_backward
from attngen.codegen.backends.cpu.library import load_entry
from attngen.codegen.backends.cpu.support import refusal
from attngen.codegen.backends.cpu.support_backward import backward_refusal
from attngen.codegen.fingerprint import package_fingerprint
from attngen.codegen.lower.lowered import lowered, lowered_backward, lowered_launch, lowered_wanted
from attngen.codegen.plan import Plan
from attngen.ir.text import text
from attngen.templates import fingerprint

FORWARD, BACKWARD = "attngen_forward", "attngen_backward"
log = logging.getLogger("attngen.cpu")


@dataclass(frozen=True, slots=True)
class Built:
    """A loaded kernel: its entry function, the config it was built with, and where its files are."""

    function: Callable[[bytes], int]
    config: CpuConfig
    directory: Path


class CpuBackend:
    """Generated C++, in the instruction set of this machine."""

    name = "cpu"

    def supports(self, plan: Plan) -> str | None:
        found = compiler.find()
        if isinstance(found, compiler.NoCompiler):
            return found.reason
        return refusal(plan)

    def configs(self, plan: Plan) -> tuple[CpuConfig, ...]:
        return (default(isa.choose(), plan),)

    def emit(self, plan: Plan, config: CpuConfig) -> SourceFile:
        return emit(lowered(plan).in_boxes(config.box), config)

    def build(self, plan: Plan, config: CpuConfig) -> Built:
        """The kernel from the cache, or built into it. Raises `BuildError` with the generated line."""
        return self._build(plan, config, FORWARD, lambda: self.emit(plan, config))

    def _build(self, plan: Plan, config: CpuConfig, entry: str, emitted: Callable[[], SourceFile], *more: str) -> Built:
        # What is made before the loop is no part of the kernel: feature maps and rankings share one.
        target = lowered(plan)
        parts = {
            "entry": " ".join((entry, *more)),
            "spec": text(replace(target.spec, name="")),
            "problem": repr(target.problem),
            "config": str(config),
            "target": isa.identity(),
            "compiler": f"{compiler.version()}: {' '.join((*compiler.command(), *compiler.flags(config.isa)))}",
            "templates": fingerprint("cpp"),
            "codegen": package_fingerprint(),
        }
        address = store.key(parts)

        def builder(directory: Path) -> None:
            store.refuse_if_jit_disabled(f"the kernel {plan.spec.name!r} ({plan.problem.dtype})")
            log.info("building %s of %s (%s, %s)", entry, plan.spec.name, plan.problem.dtype, config)
            compiler.compile_shared(emitted().text, config.isa, directory)

        found, function = load_entry(
            lambda: store.build_once(address, builder, parts),
            compiler.LIBRARY,
            entry,
            (ctypes.c_void_p,),
            ctypes.c_int,
        )
        return Built(function, config, found.directory)

    def prepare(self, built: Built, plan: Plan, call: Call) -> Launch:
        return lowered_launch(plan, call, partial(prepare, built.function, built.config), built.config.tile)

    def supports_backward(self, plan: Plan) -> str | None:
        return backward_refusal(plan)

    def configs_backward(self, plan: Plan) -> tuple[CpuConfig, ...]:
        return (default_backward(isa.choose(), plan),)

    def emit_backward(self, plan: Plan, config: CpuConfig, wanted: frozenset[str]) -> SourceFile:
        return emit_backward(lowered(plan).in_boxes(config.box), config, lowered_wanted(plan, wanted))

    def build_backward(self, plan: Plan, config: CpuConfig, wanted: frozenset[str]) -> Built:
        """The backward from the cache, or built into it."""
        asked = sorted(lowered_wanted(plan, wanted))
        return self._build(plan, config, BACKWARD, lambda: self.emit_backward(plan, config, wanted), *asked)

    def prepare_backward(self, built: Built, plan: Plan, call: Call, wanted: frozenset[str]) -> BackwardLaunch:
        make = partial(prepare_backward, built.function, built.config, wanted=lowered_wanted(plan, wanted))
        return lowered_backward(plan, call, make, wanted, built.config.tile)
