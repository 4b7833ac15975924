"""Which device is tuned, and what builds for it: measurements of one say nothing about another."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from attngen import settings
from attngen.codegen.fingerprint import package_fingerprint
from attngen.templates import fingerprint

if TYPE_CHECKING:
    from attngen.codegen.backend import Backend

ISA = settings.variable("isa")
_CPUINFO = Path("/proc/cpuinfo")
SHORT = 12
"""Digits of a fingerprint."""


def device_of(backend: Backend, index: int | None = None) -> str | None:
    """The device that a backend builds for, in words; None where there is nothing to tune, as under an interpreter.

    `index`: of several GPUs.
    """
    if backend.name == "cpu":
        return _cpu(os.environ.get(ISA))
    if backend.name == "triton" and getattr(backend, "device", "cpu") == "cuda":
        return _gpu(index)
    return None


@cache
def _cpu(forced: str | None) -> str:
    """`forced`: what ATTNGEN_ISA says, which `choose` reads."""
    from attngen.codegen.backends.cpu import isa

    return f"cpu {isa.choose()} {isa.processor()[0]}"


@cache
def _gpu(index: int | None) -> str | None:
    import torch

    if not torch.cuda.is_available():
        return None
    found = torch.cuda.get_device_properties(index if index is not None else torch.cuda.current_device())
    return f"{found.name}, {found.multi_processor_count} SMs, {found.total_memory >> 30} GiB"


def versions(backend: str) -> Mapping[str, str]:
    """What decides the machine code of a config: the compiler, and the sources of attngen."""
    found = {"codegen": package_fingerprint()[:SHORT]}
    if backend == "cpu":
        from attngen.codegen.backends.cpu import compiler

        return found | {"templates": fingerprint("cpp")[:SHORT], "compiler": compiler.version()}
    return found | {
        "templates": fingerprint("triton")[:SHORT],
        "triton": _version("triton"),
        "torch": _version("torch"),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "?"


def clock() -> float | None:
    """The clock of the processor in MHz now, the mean over its cores; None where nothing tells."""
    try:
        with _CPUINFO.open() as stream:
            found = [float(text.partition(":")[2]) for text in stream if text.startswith("cpu MHz")]
    except (OSError, ValueError):
        return None
    return round(sum(found) / len(found), 1) if found else None
