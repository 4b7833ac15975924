"""`attngen bench`."""

from __future__ import annotations

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
from attngen.suggest import nearest


def bench(
    spec: SpecArgument,
    against: Annotated[str, typer.Option("--against", metavar="sdpa,flex", help="Libraries of torch.")] = "sdpa",
    shape: ShapeOption = None,
    dtype: DtypeOption = "fp32",
    grid: GridOption = None,
    head_dim: HeadDimOption = None,
    device: DeviceOption = "cpu",
    backend: BackendOption = None,
    seconds: Annotated[float, typer.Option("--seconds", metavar="S", min=0, help="Time for the rounds, about.")] = 10.0,
) -> None:
    """Time a kernel beside other libraries, in turn on the same tensors.

    Forward. SDPA gets its mask as a tensor, or is_causal; FlexAttention is compiled, its block mask made beforehand.
    """
    import torch

    from attngen.bench import PEERS, Refused, peer, race
    from attngen.cli.problem import kernel_of, sample_of, shape_of
    from attngen.cli.target import resolve

    names = [name.strip() for name in against.split(",") if name.strip()]
    unknown = next((name for name in names if name not in PEERS), None)
    if unknown is not None or not names:
        known = ", ".join(PEERS)
        raise InputError(f"--against: got {against!r}; allowed: {known}{nearest(unknown or '', PEERS)}")
    target = resolve(spec, grid)
    call = sample_of(target, shape_of(target, shape, head_dim), dtype, device)
    kernel = kernel_of(target, backend)
    q, k, v = call.q, call.k, call.v
    calls = {"attngen": lambda: kernel(q, k, v, **call.inputs)}
    refused: dict[str, str] = {}
    for name in names:
        found = peer(name, kernel, q, k, v, dict(call.inputs))
        if isinstance(found, Refused):
            refused[name] = found.reason
        else:
            calls[name] = found
    with torch.no_grad():
        result = race(calls, device, seconds)
    ours = result.found["attngen"]
    typer.echo(f"{kernel.spec.ir.name} {call.shape} {dtype}, {ours.rounds} rounds")
    typer.echo(f"  attngen  {1e3 * ours.seconds:9.4g} ms")
    for name, one in result.found.items():
        if name != "attngen":
            ratio = f"{one.ratio:.2f} x the time of attngen ({one.low:.2f} to {one.high:.2f})"
            typer.echo(f"  {name:<8} {1e3 * one.seconds:9.4g} ms, {ratio}")
    for name, reason in (refused | result.refused).items():
        typer.echo(f"  {name:<8} not compared: {reason}")
