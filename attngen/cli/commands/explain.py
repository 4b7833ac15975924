"""`attngen explain`."""

from __future__ import annotations

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


def explain(
    spec: SpecArgument,
    shape: ShapeOption = None,
    dtype: DtypeOption = "fp32",
    grid: GridOption = None,
    head_dim: HeadDimOption = None,
    device: DeviceOption = "cpu",
    backend: BackendOption = None,
) -> None:
    """What is proven and chosen for a call: backend, tiles, FLOPs.

    Facts of each mask (ranges, patterns, rows, loads), the work and the traffic, the inputs. Nothing is built.
    """
    from attngen.cli.problem import kernel_of, sample_of, shape_of
    from attngen.cli.target import resolve

    target = resolve(spec, grid)
    call = sample_of(target, shape_of(target, shape, head_dim), dtype, device)
    found = kernel_of(target, backend).explain(call.q, call.k, call.v, **call.inputs)
    typer.echo(str(found.with_paths(target.spec.bindings)))
