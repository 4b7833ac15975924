"""`attngen report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attngen.cli.options import (
    BackendOption,
    DeviceOption,
    DtypeOption,
    GridOption,
    HeadDimOption,
    ShapeOption,
    SpecArgument,
)
from attngen.errors import InputError


def report(
    spec: SpecArgument,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The page, HTML.", show_default=False)],
    shape: ShapeOption = None,
    dtype: DtypeOption = "fp32",
    grid: GridOption = None,
    head_dim: HeadDimOption = None,
    device: DeviceOption = "cpu",
    backend: BackendOption = None,
) -> None:
    """Write one page about a call: mask, facts, plan, tuning, source.

    The page refers to nothing outside of itself. Nothing is built or measured; attngen tune does that.
    """
    from attngen.cli.problem import kernel_of, sample_of, shape_of
    from attngen.cli.target import resolve
    from attngen.report import report as page

    target = resolve(spec, grid)
    call = sample_of(target, shape_of(target, shape, head_dim), dtype, device)
    text = page(kernel_of(target, backend), call.q, call.k, call.v, **call.inputs)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise InputError(f"{out}: cannot be written: {problem.strerror or problem}") from problem
    typer.echo(f"{out}: {len(text) >> 10} KiB")
