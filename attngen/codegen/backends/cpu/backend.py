"""The CPU backend: generated C++ for every Streaming normalizer, built by the machine's compiler."""

from __future__ import annotations

import ctypes
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from attngen.codegen import cache as store
from attngen.codegen.backend import Call, Launch, SourceFile
from attngen.codegen.backends.cpu import compiler, isa
from attngen.codegen.backends.cpu.config import CpuConfig, default
from attngen.codegen.backends.cpu.emit import emit
from attngen.codegen.backends.cpu.launch import prepare
from attngen.codegen.backends.cpu.library import load_entry
from attngen.codegen.backends.cpu.support import refusal
from attngen.codegen.plan import Plan
from attngen.ir.text import text
from attngen.templates import fingerprint

ENTRY = "attngen_forward"
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
        return (default(isa.choose(), plan.problem.dtype),)

    def emit(self, plan: Plan, config: CpuConfig) -> SourceFile:
        return emit(plan, config)

    def build(self, plan: Plan, config: CpuConfig) -> Built:
        """The kernel from the cache, or built into it. Raises `BuildError` with the generated line."""
        parts = {
            "spec": text(replace(plan.spec, name="")),
            "problem": repr(plan.problem),
            "config": str(config),
            "target": isa.identity(),
            "compiler": f"{compiler.version()}: {' '.join((*compiler.command(), *compiler.flags(config.isa)))}",
            "templates": fingerprint("cpp"),
            "codegen": package_fingerprint(),
        }
        address = store.key(parts)

        def builder(directory: Path) -> None:
            store.refuse_if_jit_disabled(f"the kernel {plan.spec.name!r} ({plan.problem.dtype})")
            log.info("building %s (%s, %s)", plan.spec.name, plan.problem.dtype, config)
            compiler.compile_shared(emit(plan, config).text, config.isa, directory)

        entry, function = load_entry(
            lambda: store.build_once(address, builder, parts),
            compiler.LIBRARY,
            ENTRY,
            (ctypes.c_void_p,),
            ctypes.c_int,
        )
        return Built(function, config, entry.directory)

    def prepare(self, built: Built, plan: Plan, call: Call) -> Launch:
        return prepare(built.function, built.config, plan, call)


@cache
def package_fingerprint() -> str:
    """A hash of the sources that decide what is generated, so that a changed compiler never finds old kernels."""
    root = Path(__file__).parents[3]
    digest = hashlib.sha256()
    for folder in ("ir", "codegen"):
        for file in sorted((root / folder).rglob("*.py")):
            digest.update(file.relative_to(root).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
