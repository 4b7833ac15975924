"""Bundles without a compiler and launches without a GPU: what is built is a name, and what is launched is noted."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from attngen.codegen.backends.triton.ahead import Binary
from attngen.codegen.backends.triton.lint import Resources
from attngen.codegen.bundle.driver import Grid
from attngen.codegen.bundle.packing import ctype

BITS = {1: "b8", 4: "u32", 8: "u64"}
METADATA = {
    "num_ctas": 1,
    "launch_cooperative_grid": False,
    "launch_pdl": False,
    "global_scratch_size": 0,
    "global_scratch_align": 1,
    "profile_scratch_size": 0,
    "profile_scratch_align": 1,
}


def build(
    path: Path,
    entry: str,
    signature: Mapping[str, str],
    constants: Mapping[str, int],
    divisible: Collection[str],
    target: str,
    num_warps: int,
    num_stages: int,
    line_info: bool = True,
) -> Binary:
    """In the place of `build_apart`: code that says what it would be."""
    kinds = [kind for name, kind in signature.items() if name not in constants]
    declared = [f".param .{BITS[ctypes.sizeof(ctype(kind))]} p" for kind in (*kinds, "*i8", "*i8")]
    return Binary(
        name=entry,
        arch=target,
        cubin=f"{path.parent.name} {path.stem} {entry} {'aligned' if divisible else 'generic'}".encode(),
        ptx=f".visible .entry {entry}({', '.join(declared)})",
        ttgir="",
        shared=70000,
        num_warps=num_warps,
        metadata=METADATA,
    )


def resources(binary: Binary, **changes: Any) -> Resources:
    """In the place of `lint`: a kernel that nothing is wrong with."""
    names = ("tensor_memory", "stack", "local_loads", "local_stores", "main_loops", "products_in_loop")
    names = (*names, "dots_in_loop", "groups_in_loop", "full_waits_in_loop")
    facts: dict[str, Any] = dict.fromkeys(names, 0)
    facts |= {"arch": binary.arch, "threads": 32 * binary.num_warps, "registers": 100, "shared": binary.shared}
    facts |= {"serialized": "", "asked_specialized": False, "specialized": False}
    return Resources(**facts | changes)


def pretend(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Lets the linter take pretended code; `changes` are what it finds."""
    monkeypatch.setattr("attngen.codegen.backends.triton.aot.lint", lambda binary: resources(binary, **changes))


@dataclass
class Launched:
    """What a driver was asked to start."""

    image: bytes
    symbol: str
    allowed: int
    grid: Grid
    threads: int
    shared: int
    values: list[Any]


@dataclass
class Recorder:
    """A driver that notes launches. `passed`: Triton's types of the parameters of each image, to read them by."""

    passed: dict[bytes, list[str]]
    arch: tuple[int, int] = (9, 0)
    device_type: str = "cpu"
    loaded: list[tuple[bytes, str, int]] = field(default_factory=list)
    launched: list[Launched] = field(default_factory=list)

    def capability(self, device: torch.device) -> tuple[int, int]:
        return self.arch

    def on(self, device: torch.device) -> AbstractContextManager[Any]:
        return nullcontext()

    def load(self, image: bytes, symbol: str, shared: int, device: torch.device) -> int:
        self.loaded.append((image, symbol, shared))
        return len(self.loaded) - 1

    def launch(self, kernel: int, grid: Grid, threads: int, shared: int, device: torch.device, parameters: Any) -> None:
        image, symbol, allowed = self.loaded[kernel]
        kinds = self.passed[image]
        assert len(parameters) == len(kinds)
        values = [ctype(kind).from_address(at).value for kind, at in zip(kinds, parameters, strict=True)]
        self.launched.append(Launched(image, symbol, allowed, grid, threads, shared, values))


def passed_of(bundle: Any) -> dict[bytes, list[str]]:
    """For a `Recorder`: the types of the parameters of each image of a bundle."""
    return {
        bundle.read(variant.cubin): [kind for _, kind in variant.passed]
        for problem in bundle.manifest.problems
        for kernel in problem.kernels
        for variant in kernel.variants
    }
