"""The options that commands share."""

from __future__ import annotations

from typing import Annotated

import typer

SPEC_HELP = "module:attribute, file.py:attribute, or a mechanism as name:key=value,key=value (see `attngen list`)."

SpecArgument = Annotated[str, typer.Argument(metavar="SPEC", help=SPEC_HELP, show_default=False)]
ShapeOption = Annotated[
    str | None,
    typer.Option("--shape", metavar="B,Hq,Hkv,Nq,Nk,D[,Dv]", help="The sizes of the call.", show_default=False),
]
GridOption = Annotated[
    str | None,
    typer.Option("--grid", metavar="32x32", help="The grid of a mechanism or function over one.", show_default=False),
]
HeadDimOption = Annotated[
    int | None, typer.Option("--head-dim", metavar="D", help="The head dimension, without --shape.", show_default=False)
]
DtypeOption = Annotated[str, typer.Option("--dtype", metavar="fp32|bf16|fp16|fp64", help="The element type.")]
DeviceOption = Annotated[str, typer.Option("--device", metavar="cpu|cuda:0", help="Where the kernel runs.")]
BackendOption = Annotated[
    str | None,
    typer.Option("--backend", metavar="NAME", help="Use only this backend: cpu, reference, ...", show_default=False),
]
