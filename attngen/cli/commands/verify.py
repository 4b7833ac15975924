"""`attngen verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from attngen.cli.options import BackendOption, DeviceOption, GridOption, HeadDimOption, ShapeOption, SpecArgument
from attngen.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

NUMERICS_HELP = "Instead: errors over hard inputs, of gradients too, and the biased rounding of bf16."


def verify(
    spec: SpecArgument,
    shape: ShapeOption = None,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", metavar="fp32|bf16|fp16", help="One precision of --numerics.", show_default=False),
    ] = None,
    grid: GridOption = None,
    head_dim: HeadDimOption = None,
    device: DeviceOption = "cpu",
    backend: BackendOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer shapes, no torch.compile, no long rows.")] = False,
    numerics: Annotated[bool, typer.Option("--numerics", help=NUMERICS_HELP)] = False,
) -> None:
    """Check every property of a spec against the float64 oracle.

    A line for each check, with its figures. Exit code 1 when one fails.
    """
    from attngen.cli.problem import checked_device, kernel_of, shape_of
    from attngen.cli.target import resolve
    from attngen.verification import verify as run
    from attngen.verification.numerics import numerics as measure
    from attngen.verification.numerics_page import show

    target = resolve(spec, grid)
    kernel = kernel_of(target, backend)
    given = None if shape is None and head_dim is None else shape_of(target, shape, head_dim, tokens=64)
    used, where = kernel.backend, checked_device(device)
    if numerics:
        chosen = _dtypes(dtype)
        report = measure(target.spec, shape=given, dtypes=chosen, quick=quick, backend=used, device=where, each=show)
    elif dtype is not None:
        raise InputError("--dtype: goes with --numerics; without it every check runs in its own precisions")
    else:
        report = run(target.spec, shape=given, quick=quick, backend=used, device=where, each=_print)
    typer.echo(report.summary())
    raise typer.Exit(0 if report.ok else 1)


def _dtypes(dtype: str | None) -> Sequence[str]:
    from attngen.suggest import nearest
    from attngen.verification.numerics import DTYPES

    if dtype not in (None, *DTYPES):
        raise InputError(f"--dtype: got {dtype!r}; allowed: {', '.join(DTYPES)}{nearest(str(dtype), DTYPES)}")
    return DTYPES if dtype is None else (dtype,)


def _print(check: object) -> None:
    typer.echo(str(check))
