"""The Triton source of a plan: one module that stands alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from attngen.codegen.backend import SourceFile
from attngen.codegen.backends.triton.abi import Parameters, parameters
from attngen.codegen.backends.triton.config import TritonConfig
from attngen.codegen.backends.triton.emit_branch import BranchEmitter
from attngen.codegen.backends.triton.scope import Scope
from attngen.codegen.backends.triton.text import block
from attngen.codegen.calls.arguments import arguments_of
from attngen.codegen.derive.factors import with_gathered_factors
from attngen.codegen.derive.hoist import with_hoisted_scores
from attngen.codegen.plan import Plan
from attngen.codegen.printers.triton import library
from attngen.ir.nodes import Concat
from attngen.templates import read, render


@dataclass(frozen=True, slots=True)
class ModuleHoles:
    """The holes of module.py.jinja."""

    title: str
    library: str
    precision: str
    tiles: str
    kernels: str


@dataclass(frozen=True, slots=True)
class KernelHoles:
    """The holes of kernel.py.jinja."""

    name: str
    parameters: str
    block_m: int
    block_n: int
    numbers: str
    by_keys: bool
    tiles: str
    heads: str
    coordinates: str
    body: str


def emit(plan: Plan, config: TritonConfig) -> SourceFile:
    """The module of the forward."""
    plan = for_key_tiles(with_gathered_factors(plan), config)
    scope = Scope(plan, arguments_of(plan), config=config)
    names = prefixes()
    branches = [BranchEmitter(scope, i, offset, names).text() for i, offset in enumerate(offsets(plan))]
    kernel = print_kernel("forward", scope, parameters(plan), config, branches)
    return SourceFile("forward.py", print_module(f"forward, {plan.problem.dtype}, {config}", config, [kernel]))


def for_key_tiles(plan: Plan, config: TritonConfig) -> Plan:
    """The plan for a kernel that loops over tiles of keys. Those of a box are not consecutive."""
    return plan if config.box_n else with_hoisted_scores(plan)


def print_kernel(
    name: str, scope: Scope, given: Parameters, config: TritonConfig, body: Sequence[str], tiles: str = ""
) -> str:
    """One kernel. `tiles`: how many there are of each head; those of queries where nothing is said."""
    coordinates = [] if scope.by_keys else [*scope.coordinates("q", "q"), *scope.corners()]
    if scope.boxed:
        coordinates = [] if scope.by_keys else [*scope.box_at("q", "tile"), *scope.in_box("q", True)]
        coordinates += [] if scope.by_keys else scope.box_ends("q", "q")
        tiles = tiles or f"{scope.boxes('q').tokens // scope.boxes('q').volume}"
    holes = KernelHoles(
        name=name,
        parameters="\n".join(f"    {parameter}," for parameter in given.signature),
        block_m=config.block_m,
        block_n=config.block_n,
        # The interpreter passes small integers as 32-bit ones, and floats as Python's.
        numbers=block("\n".join(f"{name} = tl.cast({name}, {kind})" for name, kind in given.numbers.items())),
        by_keys=scope.by_keys,
        tiles=tiles or "(n_q + BLOCK_M - 1) // BLOCK_M",
        heads="n_h // group" if scope.by_keys else "n_h",
        coordinates=block("\n".join(coordinates)),
        body=block("\n".join(body)),
    )
    return render("triton/kernel.py.jinja", holes).strip()


def print_module(title: str, config: TritonConfig, kernels: Sequence[str]) -> str:
    """The module of some kernels."""
    return render(
        "triton/module.py.jinja",
        ModuleHoles(
            title=f"attngen: {title}",
            library=library(inline=config.lookups == "inline").strip(),
            precision=config.precision,
            tiles="\n\n\n".join(read(f"triton/{name}.py.jinja").strip() for name in ("tiles", "weights", "roots")),
            kernels="\n\n\n".join(kernels),
        ),
    )


def offsets(plan: Plan) -> Iterator[int]:
    """The first channel of the result that each branch writes."""
    at = 0
    for branch in plan.branches:
        yield at
        if isinstance(plan.spec.combine, Concat):
            at += branch.width


def prefixes() -> Iterator[str]:
    """t0_, t1_, ...: no two of them begin alike, and no name of a template does."""
    return (f"t{n}_" for n in count())
