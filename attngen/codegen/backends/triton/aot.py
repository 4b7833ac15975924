"""The kernels of a plan for an architecture that need not be at hand: source, both binaries, what they take."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from attngen.codegen.backends.triton.abi import Parameters, backward_parameters, parameters
from attngen.codegen.backends.triton.ahead import Binary, build_apart
from attngen.codegen.backends.triton.alignment import ALIGNED, GENERIC
from attngen.codegen.backends.triton.backend import FORWARD
from attngen.codegen.backends.triton.config import TritonConfig, default, default_backward
from attngen.codegen.backends.triton.emit import emit
from attngen.codegen.backends.triton.emit_backward import KERNELS, emit_backward
from attngen.codegen.backends.triton.lint import complaints, lint
from attngen.codegen.backends.triton.wanted import wanted_sets
from attngen.codegen.bundle.manifest import BundledKernel, Variant
from attngen.codegen.bundle.packing import ctype
from attngen.codegen.devices import built_for
from attngen.codegen.lower.lowered import lowered, lowered_wanted
from attngen.codegen.plan import Plan
from attngen.errors import BuildError

SCRATCH = (("global_scratch", "*i8"), ("profile_scratch", "*i8"))
"""What Triton appends to the parameters of every kernel."""
PLAIN = {"num_ctas": 1, "launch_cooperative_grid": False, "launch_pdl": False}
"""What a launch out of the ordinary would say otherwise."""
MOST_ALIGNED = 512
"""Bytes that addresses of torch's allocator are multiples of."""
_ENTRY = r"\.entry\s+{}\s*\((.*?)\)"
_PARAM = re.compile(r"\.param\s+(?:\.align\s+\d+\s+)?\.([a-z])(\d+)\b")


class TooLarge(Exception):
    """A kernel that no launch on its architecture could start: a block takes more of `what` than there is."""

    def __init__(self, role: str, what: str, taken: int, allowed: int) -> None:
        super().__init__(role, what, taken, allowed)
        self.role, self.what, self.taken, self.allowed = role, what, taken, allowed


@dataclass(frozen=True, slots=True)
class Role:
    """One function of a module, as it is to be built."""

    role: str
    entry: str
    file: str
    text: str
    parameters: Parameters
    config: TritonConfig
    options: Mapping[str, Any] = field(default_factory=dict)


Build = Callable[..., Binary]
"""`build_apart`, or what stands for it."""


def roles(plan: Plan, arch: str, backward: bool = True) -> tuple[Role, ...]:
    """Every function that the kernels of a plan consist of, with the config for the architecture.

    Those of a backward say in `options` which inputs they compute gradients of.
    """
    target, major = lowered(plan), built_for(arch).capability[0]
    config = default(target, major)
    source = emit(target, config)
    found = [Role(FORWARD, FORWARD, source.name, source.text, parameters(target), config)]
    if not backward:
        return tuple(found)
    both = default_backward(target, major)
    for wanted in wanted_sets(plan):
        every = lowered_wanted(plan, wanted)
        source = emit_backward(target, both, every)
        file = source.name.replace(".py", "_inputs.py") if wanted else source.name
        given, options = backward_parameters(target, every), {"wanted": sorted(wanted)}
        for name in KERNELS:
            own = both.of(name)
            found.append(Role(name, name, file, source.text, given, own, options))
    return tuple(found)


def build_kernels(
    plan: Plan, arch: str, work: Path, folder: str, build: Build = build_apart, backward: bool = True
) -> Iterator[BundledKernel]:
    """Builds every kernel of a plan into `work / folder`; paths in what it gives are relative to `work`.

    Raises `TooLarge` for a kernel that cannot start on the architecture, and `BuildError` for one that Triton refuses.
    """
    (work / folder).mkdir(parents=True, exist_ok=True)
    found = roles(plan, arch, backward)
    for role in found:
        (work / folder / role.file).write_text(role.text, encoding="utf-8")
    # Every build is a process of its own, for which a thread waits.
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def begun(role: Role, aligned: bool) -> Future[Variant]:
            return pool.submit(_variant, role, arch, work, f"{folder}/{role.file}", aligned, build)

        building = [[begun(role, aligned) for aligned in (True, False)] for role in found]
        try:
            for role, variants in zip(found, building, strict=True):
                yield _kernel(role, arch, f"{folder}/{role.file}", tuple(variant.result() for variant in variants))
        finally:
            for future in (future for variants in building for future in variants):
                future.cancel()


def _kernel(role: Role, arch: str, source: str, variants: tuple[Variant, ...]) -> BundledKernel:
    given = role.parameters
    return BundledKernel(
        role=role.role,
        arch=arch,
        entry=role.entry,
        source=source,
        config=asdict(role.config),
        options=dict(role.options),
        signature=tuple(given.signature.items()),
        pointers=given.pointers,
        strides=given.strides,
        channels=given.channels,
        variants=variants,
    )


def _variant(role: Role, arch: str, work: Path, source: str, aligned: bool, build: Build) -> Variant:
    given, name = role.parameters, ALIGNED if aligned else GENERIC
    binary = build(
        work / source,
        role.entry,
        given.signature,
        given.constants(aligned),
        given.divisible(aligned),
        arch,
        role.config.num_warps,
        role.config.num_stages,
        False,
    )
    passed = _passed(given, aligned)
    _check(binary, passed)
    found, device = lint(binary), built_for(arch)
    for what, taken, allowed in (
        ("bytes of shared memory", found.shared, device.shared_per_block),
        ("columns of tensor memory", found.tensor_memory, device.tensor_memory),
    ):
        if taken > allowed:
            raise TooLarge(role.role, what, taken, allowed)
    module = source.removesuffix(".py")
    function = "" if Path(module).name == role.entry else f".{role.entry}"
    file = f"{module}{function}.{name}.cubin"
    (work / file).write_bytes(binary.cubin)
    return Variant(
        name=name,
        cubin=file,
        symbol=binary.name,
        threads=32 * binary.num_warps,
        shared=binary.shared,
        passed=passed,
        global_scratch=_scratch(binary, "global_scratch"),
        profile_scratch=_scratch(binary, "profile_scratch"),
        resources=asdict(found),
        complaints=tuple(complaints(found, device)),
        metadata=binary.metadata,
    )


def _passed(given: Parameters, aligned: bool) -> tuple[tuple[str, str], ...]:
    """What a launch passes: constants are no parameters of the machine code, and scratch comes last."""
    dropped = given.constants(aligned)
    return (*((name, kind) for name, kind in given.signature.items() if name not in dropped), *SCRATCH)


def _check(binary: Binary, passed: tuple[tuple[str, str], ...]) -> None:
    """Holds what will be passed against what the machine code declares: another Triton may append something else."""
    entry = re.search(_ENTRY.format(re.escape(binary.name)), binary.ptx, re.DOTALL)
    declared = [int(bits) // 8 for _, bits in _PARAM.findall(entry[1])] if entry else []
    wanted = [ctypes.sizeof(ctype(kind)) for _, kind in passed]
    if declared != wanted:
        raise BuildError(
            f"{binary.name} for {binary.arch}: Triton declares {len(declared)} parameters of {declared} bytes and a "
            f"bundle passes {len(wanted)} of {wanted}; this version of Triton is not known to bundles"
        )
    for name, plain in PLAIN.items():
        if binary.metadata.get(name, plain) != plain:
            raise BuildError(f"{binary.name}: {name} is {binary.metadata[name]}, which bundles do not launch")


def _scratch(binary: Binary, name: str) -> tuple[int, int]:
    size, alignment = int(binary.metadata.get(f"{name}_size", 0)), int(binary.metadata.get(f"{name}_align", 1))
    if alignment > MOST_ALIGNED:
        raise BuildError(f"{binary.name}: {name} is to be aligned to {alignment} bytes; {MOST_ALIGNED} are the most")
    return size, alignment
