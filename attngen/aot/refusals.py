"""What a bundle says to a device, a dtype or a head dimension that it was not built for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.codegen.devices import DEVICES
from attngen.codegen.problem import Problem
from attngen.errors import BundleError, InputError

if TYPE_CHECKING:
    import torch

    from attngen.codegen.bundle.driver import Driver
    from attngen.codegen.bundle.files import Bundle
    from attngen.codegen.bundle.manifest import BundledProblem

KIN = {"bf16": "fp16", "fp16": "bf16"}


def arch_for(bundle: Bundle, driver: Driver, device: torch.device) -> str:
    """The architecture of the bundle whose kernels run on a device: the newest of them.

    Raises `InputError` for a device of another type, and `BundleError` where none runs there.
    """
    archs = bundle.manifest.archs
    if device.type != driver.device_type:
        raise InputError(
            f"q: is on {device}; this bundle holds kernels for {', '.join(archs)}: move q, k and v to such a GPU, or "
            "compile for this device with attngen.compile"
        )
    capability = driver.capability(device)
    arch = f"sm_{capability[0]}{capability[1]}"
    running = [each for each in archs if _runs(each, capability)]
    if not running:
        raise BundleError(
            f"{bundle.directory}: was built for {', '.join(archs)}, and {device} is {arch}; "
            f"build it for that: {command(bundle, arch=arch)}"
        )
    return running[-1]


def entry_for(bundle: Bundle, problem: Problem) -> BundledProblem:
    """What the bundle has for a problem. Raises `InputError` naming the operand that differs, and the nearest."""
    known = bundle.manifest.problems
    for each in known:
        if (each.problem.dtype, each.problem.operands) == (problem.dtype, problem.operands):
            return each
    dtypes = list(dict.fromkeys(each.problem.dtype for each in known))
    if problem.dtype not in dtypes:
        kin = KIN.get(problem.dtype, "")
        near = kin if kin in dtypes else dtypes[-1]
        raise InputError(
            f"q: got {problem.dtype}; this bundle was built for {', '.join(dtypes)}; the nearest is {near}. "
            f"Build it: {command(bundle, dtype=problem.dtype)}"
        )
    same = [each for each in known if each.problem.dtype == problem.dtype]
    d, dv = (problem.operand(name).width for name in ("q", "v"))
    if (d, dv) not in [(each.head_dim, each.value_dim) for each in same]:
        near_one = min(same, key=lambda each: (abs(each.head_dim - d) + abs(each.value_dim - dv), each.head_dim))
        what = f"head dimension {d}" if d == dv else f"head dimensions {d} (q, k) and {dv} (v)"
        raise InputError(
            f"q: got {what} in {problem.dtype}; this bundle was built for {', '.join(each.title for each in same)}; "
            f"the nearest is {near_one.title}. Build it: {command(bundle, head_dim=d, value_dim=dv)}"
        )
    built = next(each for each in same if (each.head_dim, each.value_dim) == (d, dv)).problem
    ours, theirs = next(pair for pair in zip(built.operands, problem.operands, strict=True) if pair[0] != pair[1])
    if ours.dtype != theirs.dtype:
        raise InputError(
            f"{ours.name}: got dtype {theirs.dtype}; this bundle was built for {ours.dtype}: convert it, or build for "
            f"it: {command(bundle)} --input {ours.name}={theirs.dtype}"
        )
    raise InputError(
        f"{ours.name}: its last dimension has {theirs.width} entries; the bundle was built for {ours.width}"
    )


def command(
    bundle: Bundle, arch: str = "", dtype: str = "", head_dim: int | None = None, value_dim: int | None = None
) -> str:
    """The command that builds the bundle with something more in it. The spec is what the user knows it by."""
    known = bundle.manifest.problems
    archs = dict.fromkeys([*bundle.manifest.archs, *([arch] if arch else [])])
    dtypes = dict.fromkeys([*(each.problem.dtype for each in known), *([dtype] if dtype else [])])
    dims = dict.fromkeys([*(each.head_dim for each in known), *([head_dim] if head_dim else [])])
    values = {each.value_dim for each in known if each.value_dim != each.head_dim}
    if value_dim is not None and value_dim != head_dim:
        values = {value_dim}
    value = f" --value-dim {values.pop()}" if values else ""
    return (
        f"attngen aot SPEC --arch {','.join(archs)} --dtype {','.join(dtypes)} "
        f"--head-dim {','.join(map(str, dims))}{value} -o DIR"
    )


def _runs(arch: str, capability: tuple[int, int]) -> bool:
    """`Device.runs`, for a device that no table knows."""
    from dataclasses import replace

    return replace(DEVICES[0], capability=capability).runs(arch)
