"""`attngen verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from attngen.cli.options import BackendOption, DeviceOption, GridOption, HeadDimOption, ShapeOption, SpecArgument


def verify(
    spec: SpecArgument,
    shape: ShapeOption = None,
    grid: GridOption = None,
    head_dim: HeadDimOption = None,
    device: DeviceOption = "cpu",
    backend: BackendOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer shapes, and no torch.compile.")] = False,
) -> None:
    """Check every property of a spec against the float64 oracle.

    A line for each check, with its figures. Exit code 1 when one fails.
    """
    from attngen.cli.problem import checked_device, kernel_of, shape_of
    from attngen.cli.target import resolve
    from attngen.verification import verify as run

    target = resolve(spec, grid)
    kernel = kernel_of(target, backend)
    given = None if shape is None and head_dim is None else shape_of(target, shape, head_dim, tokens=64)
    report = run(
        target.spec, shape=given, quick=quick, backend=kernel.backend, device=checked_device(device), each=_print
    )
    typer.echo(report.summary())
    raise typer.Exit(0 if report.ok else 1)


def _print(check: object) -> None:
    typer.echo(str(check))
