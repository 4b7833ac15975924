"""The bundle of a spec: every kernel for every architecture, dtype and head dimension that was asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from attngen import __version__
from attngen.aot.limits import checked_archs, checked_dtypes, need_triton
from attngen.aot.problems import check_widths, problem_of
from attngen.codegen.backends.triton.ahead import build_apart
from attngen.codegen.backends.triton.aot import Build, TooLarge, build_kernels
from attngen.codegen.backends.triton.backend import FORWARD
from attngen.codegen.backends.triton.support import backward_refusal, refusal
from attngen.codegen.bundle.files import MANIFEST, measure
from attngen.codegen.bundle.manifest import BundledKernel, BundledProblem, Manifest, Number, dump
from attngen.codegen.bundle.publish import published, refuse_occupied
from attngen.codegen.devices import built_for
from attngen.codegen.plan import Plan, make_plan
from attngen.codegen.plan_text import plan_text
from attngen.errors import InputError, UnsupportedError
from attngen.ir.nodes import Layout

if TYPE_CHECKING:
    from attngen.spec import Spec

log = logging.getLogger("attngen.aot")
Make = Callable[[Plan, str, Path, str], Iterator[BundledKernel]]
"""Builds the kernels of a plan for an architecture into a folder below a directory."""


@dataclass(frozen=True, slots=True)
class Step:
    """A kernel that was just built, and what for: for whoever watches."""

    problem: BundledProblem
    kernel: BundledKernel


def build_bundle(
    spec: Spec,
    directory: str | Path,
    *,
    archs: Iterable[str] = ("sm_80", "sm_90", "sm_100"),
    dtypes: Iterable[str] = ("bf16",),
    head_dims: Iterable[int] = (64, 128),
    value_dim: int | None = None,
    inputs: Mapping[str, str] | None = None,
    layout: Layout = "bhnd",
    backward: bool = True,
    force: bool = False,
    each: Callable[[Step], object] | None = None,
    build: Build = build_apart,
) -> Manifest:
    """Writes a bundle with Triton kernels of a spec; no GPU is needed. `attngen.load_bundle(directory)` runs it.

    archs: such as "sm_90". dtypes: of q, k, v: bf16, fp16, fp32. head_dims: widths of queries and keys; of values, too,
    unless `value_dim` says otherwise. Kernels are built for every combination. inputs: dtypes (torch's names) of the
    tensors that the spec reads beside q, k and v, where they are not those that it captured. layout: of calls, unless
    they say otherwise. backward: build the kernels of gradients, too, where the spec has any; otherwise a warning says
    why it has none. force: replace a bundle that is there. each: told of every kernel that is finished.

    The directory appears at once when everything is built; until then, and after an error, it is what it was. Equal
    specs, options and versions give equal files. Raises `InputError` for what cannot be built, naming the limit and the
    nearest that can, `UnsupportedError` where Triton is missing or has no kernel for the spec, and `BuildError` where
    it refuses one.
    """
    place = Path(directory)
    need_triton()
    chosen = checked_archs(archs), checked_dtypes(dtypes)
    named = dict(inputs or {})
    widths = [(d, d if value_dim is None else value_dim) for d in sorted(set(head_dims))]
    if not widths:
        raise InputError("head_dim: got none; give one or more, such as 64 or 128")
    for d, dv in widths:
        check_widths(spec, d, dv, named)
    refuse_occupied(place, force)
    with published(place, force) as work:
        problems: list[BundledProblem] = []
        for dtype in chosen[1]:
            for d, dv in widths:
                plan = _plan(spec, dtype, d, dv, named)
                problem = BundledProblem(plan.problem, plan_text(plan), ())
                missing = backward_refusal(plan)
                if backward and missing is not None and not problems:
                    log.warning("%s: the bundle holds no backward: %s", spec.ir.name, missing)
                make = partial(build_kernels, build=build, backward=backward and missing is None)
                kernels = []
                for arch in chosen[0]:
                    folder = f"{dtype}-d{d}{'' if d == dv else f'-v{dv}'}/{arch}"
                    for kernel in _kernels(spec, plan, arch, work, folder, named, make):
                        kernels.append(kernel)
                        if each is not None:
                            each(Step(problem, kernel))
                problems.append(replace(problem, kernels=tuple(kernels)))
        manifest = Manifest(
            attngen=__version__,
            backend="triton",
            compilers={"triton": version("triton")},
            name=spec.ir.name,
            spec=str(spec),
            layout=layout,
            numbers=_numbers(spec),
            problems=tuple(problems),
            files=measure(work),
        )
        (work / MANIFEST).write_text(dump(manifest), encoding="utf-8")
    return manifest


def _plan(spec: Spec, dtype: str, head_dim: int, value_dim: int, inputs: Mapping[str, str]) -> Plan:
    plan = make_plan(spec.ir, problem_of(spec, dtype, head_dim, value_dim, inputs))
    reason = refusal(plan, "cuda")
    if reason is not None:
        raise UnsupportedError(f"{spec.ir.name}: no bundle can be built: {reason}")
    return plan


def _kernels(
    spec: Spec, plan: Plan, arch: str, work: Path, folder: str, inputs: Mapping[str, str], make: Make
) -> Iterator[BundledKernel]:
    try:
        yield from make(plan, arch, work, folder)
    except TooLarge as large:
        width = plan.problem.operand("q").width
        near = _smaller(spec, plan, arch, work / f"{folder}-smaller", inputs, make)
        hint = "no smaller one fits either" if near is None else f"the nearest that fits is {near}"
        where = "" if large.role == FORWARD else f" in its backward ({large.role})"
        hint += "; without its backward it may fit: --forward-only (backward=False)" if where else ""
        raise InputError(
            f"head_dim: {width} in {plan.problem.dtype} takes {large.taken} {large.what}{where}, and a block on {arch} "
            f"({built_for(arch).name}) has {large.allowed}; {hint}"
        ) from None


def _smaller(spec: Spec, plan: Plan, arch: str, work: Path, inputs: Mapping[str, str], make: Make) -> int | None:
    """The largest power of two below the head dimension whose kernels start on the architecture."""
    d, dv = (plan.problem.operand(name).width for name in ("q", "v"))
    near = 1 << (d - 1).bit_length() - 1
    while near >= 1:
        try:
            smaller = _plan(spec, plan.problem.dtype, near, near if dv == d else dv, inputs)
            list(make(smaller, arch, work, str(near)))
        except TooLarge:
            near //= 2
        else:
            return near
    return None


def _numbers(spec: Spec) -> dict[str, Number]:
    """The values of captured numbers. Captured tensors do not travel: they are given where the bundle is loaded."""
    found: dict[str, Number] = {}
    for item in spec.ir.inputs:
        binding = spec.bindings.get(item.name)
        if binding is not None and not item.axes:
            value = binding.fetch()
            if isinstance(value, bool | int | float):
                found[item.name] = value
    return found
