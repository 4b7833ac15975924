"""`attngen aot`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attngen.cli.options import GridOption, SpecArgument
from attngen.errors import InputError

if TYPE_CHECKING:
    from attngen.aot.build import Step
    from attngen.codegen.bundle.manifest import Manifest

WIDTH = 120
"""Of the table where the output is no terminal."""
KIB = 1024


def aot(
    spec: SpecArgument,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The bundle.", show_default=False)],
    arch: Annotated[
        str, typer.Option("--arch", metavar="sm_80,sm_90", help="GPU architectures.")
    ] = "sm_80,sm_90,sm_100",
    dtype: Annotated[str, typer.Option("--dtype", metavar="bf16,fp16,fp32", help="Element types.")] = "bf16",
    head_dim: Annotated[str, typer.Option("--head-dim", metavar="D,D", help="Head dimensions.")] = "64,128",
    value_dim: Annotated[
        int | None, typer.Option("--value-dim", metavar="Dv", help="Of values, if another one.", show_default=False)
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=DTYPE", help="The dtype of an input of the spec.", show_default=False),
    ] = None,
    grid: GridOption = None,
    forward_only: Annotated[bool, typer.Option("--forward-only", help="Leave out the kernels of gradients.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the bundle in DIR.")] = False,
) -> None:
    """Build kernels ahead of time, for GPUs that need not be here.

    Writes a bundle of machine code that attngen.load_bundle runs without a compiler, and a table of what each kernel
    takes and what is wrong with it. Needs Triton and no GPU.
    """
    from attngen.aot.build import build_bundle
    from attngen.cli.target import resolve

    target = resolve(spec, grid)
    manifest = build_bundle(
        target.spec,
        out,
        archs=arch.split(","),
        dtypes=dtype.split(","),
        head_dims=_integers(head_dim),
        value_dim=value_dim,
        inputs=dict(_named(each) for each in inputs or []),
        layout=target.layout,
        backward=not forward_only,
        force=force,
        each=_progress,
    )
    _summary(manifest, out)


def _integers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.removeprefix("-").isdecimal() for part in parts):
        raise InputError(f"--head-dim: got {text!r}; allowed: integers with commas between them, such as 64,128")
    return [int(part) for part in parts]


def _named(text: str) -> tuple[str, str]:
    name, equals, dtype = text.partition("=")
    if not equals:
        raise InputError(f"--input: got {text!r}; write NAME=DTYPE, such as slopes=bfloat16")
    return name.strip(), dtype.strip()


def _progress(step: Step) -> None:
    typer.echo(f"built {step.kernel.title} for {step.problem.title}, {step.kernel.arch}", err=True)


def _summary(manifest: Manifest, out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for i, column in enumerate(("kernel", "built for", "arch", "tensors", "registers", "shared KiB", "lint")):
        table.add_column(column, justify="right" if i in (4, 5) else "left", no_wrap=True)
    told: list[str] = []
    for problem in manifest.problems:
        for kernel in problem.kernels:
            for variant in kernel.variants:
                registers, shared = variant.resources["registers"], variant.shared / KIB
                count = len(variant.complaints)
                verdict = "fine" if not count else f"{count} complaint{'s' * (count > 1)}"
                row = (kernel.title, problem.title, kernel.arch, variant.name, str(registers), f"{shared:g}", verdict)
                table.add_row(*row)
                place = f"{kernel.title}, {problem.title}, {kernel.arch}, {variant.name}"
                told += [f"{place}: {complaint}" for complaint in variant.complaints]
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=WIDTH)).print(table)
    for line in told:
        typer.echo(line)
    size = sum(file.size for file in manifest.files) / KIB
    typer.echo(f"{out}: {len(manifest.files)} files, {size:.0f} KiB; attngen.load_bundle({str(out)!r}) loads it")
