"""The Triton source of a plan: one module that stands alone, with one kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from attngen.codegen.backend import SourceFile
from attngen.codegen.backends.triton.abi import parameters
from attngen.codegen.backends.triton.config import TritonConfig
from attngen.codegen.backends.triton.emit_branch import BranchEmitter
from attngen.codegen.backends.triton.scope import Scope
from attngen.codegen.backends.triton.text import block
from attngen.codegen.calls.arguments import arguments_of
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
    inline_lookups: bool
    block_m: int
    block_n: int
    tiles: str
    kernel: str


@dataclass(frozen=True, slots=True)
class ForwardHoles:
    """The holes of forward.py.jinja."""

    parameters: str
    numbers: str
    coordinates: str
    branches: str


def emit(plan: Plan, config: TritonConfig) -> SourceFile:
    """The whole module."""
    arguments = arguments_of(plan)
    scope = Scope(plan, arguments)
    given = parameters(plan)
    names = prefixes()
    offset, branches = 0, []
    for i, branch in enumerate(plan.branches):
        branches.append(BranchEmitter(scope, i, offset, names).text())
        if isinstance(plan.spec.combine, Concat):
            offset += branch.width
    kernel = render(
        "triton/forward.py.jinja",
        ForwardHoles(
            parameters="\n".join(f"    {name}," for name in given.signature),
            # The interpreter passes small integers as 32-bit ones, and floats as Python's.
            numbers=block("\n".join(f"{name} = tl.cast({name}, {kind})" for name, kind in given.numbers.items())),
            coordinates=block("\n".join([*scope.coordinates("q", "q"), *_corners(scope)])),
            branches=block("\n".join(branches)),
        ),
    )
    text = render(
        "triton/module.py.jinja",
        ModuleHoles(
            title=f"attngen: forward, {plan.problem.dtype}, {config}",
            library=library().strip(),
            precision=config.precision,
            inline_lookups=config.lookups == "inline",
            block_m=config.block_m,
            block_n=config.block_n,
            tiles="\n\n\n".join(read(f"triton/{name}.py.jinja").strip() for name in ("tiles", "roots")),
            kernel=kernel.strip(),
        ),
    )
    return SourceFile("forward.py", text)


def prefixes() -> Iterator[str]:
    """a_, b_, ..., aa_, ab_, ...: no two of them begin alike."""
    n = 0
    while True:
        name, rest = "", n
        while True:
            name, rest = chr(ord("a") + rest % 26) + name, rest // 26 - 1
            if rest < 0:
                break
        yield f"{name}_"
        n += 1


def _corners(scope: Scope) -> list[str]:
    """The smallest and largest coordinates in a tile of queries, which may go over the edge of a row of the grid."""
    lines: list[str] = []
    steps: list[int] = []
    below = 1
    for size in reversed(scope.dims):
        steps.insert(0, below)
        below *= size
    for i, (size, step) in enumerate(zip(scope.dims, steps, strict=True)):
        first, last = f"q_first // {step}", f"q_last // {step}"
        if i == 0:
            lines += [f"q_first_0 = {first}", f"q_last_0 = {last}"]
            continue
        same = f"q_first // {step * size} == q_last // {step * size}"
        lines.append(f"q_first_{i} = tl.where({same}, {first} % {size}, 0)")
        lines.append(f"q_last_{i} = tl.where({same}, {last} % {size}, {size - 1})")
    return lines
