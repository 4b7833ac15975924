"""`attngen show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attngen.cli.options import GridOption, ShapeOption, SpecArgument
from attngen.errors import InputError


def show(
    spec: SpecArgument,
    size: Annotated[
        str | None, typer.Option("--size", metavar="N[,Nk]", help="Tokens: queries and keys.", show_default=False)
    ] = None,
    shape: ShapeOption = None,
    grid: GridOption = None,
    tile: Annotated[int, typer.Option("--tile", min=1, help="Cells are multiples of so many tokens.")] = 1,
    png: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Write a PNG.", show_default=False)] = None,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write an SVG.", show_default=False)] = None,
) -> None:
    """Draw the mask: text, PNG or SVG, for any number of tokens."""
    from attngen import draw
    from attngen.cli.problem import shape_of
    from attngen.cli.target import resolve

    target = resolve(spec, grid)
    if shape is not None and size is not None:
        raise InputError("--size: not beside --shape; give one of them")
    options: dict[str, int] = {"tile": tile}
    n_q = n_k = None
    if shape is not None:
        known = shape_of(target, shape)
        n_q, n_k = known.nq, known.nk
        options |= {"n_b": known.b, "n_h": known.hq}
    elif size is not None:
        n_q, n_k = _size(size)
    if png is not None:
        _write(png, draw.png(target.spec, n_q, n_k, **options))
    if svg is not None:
        _write(svg, draw.svg(target.spec, n_q, n_k, **options).encode())
    if png is None and svg is None:
        typer.echo(draw.ascii(target.spec, n_q, n_k, **options))


def _size(text: str) -> tuple[int, int]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 2 or not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise InputError(f"--size: got {text!r}; allowed: N, or Nq,Nk, integers >= 1")
    return int(parts[0]), int(parts[-1])


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as problem:
        raise InputError(f"{path}: cannot be written: {problem.strerror or problem}") from problem
    typer.echo(f"{path}: {len(data)} bytes")
