"""`attngen list`."""

from __future__ import annotations

from typing import Annotated

import typer

from attngen.errors import InputError
from attngen.suggest import nearest


def list_(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="[KIND]", help="mechanisms, masks, scores, normalizers or weights.", show_default=False),
    ] = None,
) -> None:
    """What the library holds: mechanisms, masks, scores, normalizers."""
    from attngen.cli.library import KINDS, entries, signature, summary

    if kind is not None and kind not in KINDS:
        raise InputError(f"KIND: got {kind!r}; allowed: {', '.join(KINDS)}{nearest(kind, KINDS)}")
    for i, one in enumerate(KINDS if kind is None else (kind,)):
        typer.echo(("\n" if i else "") + one)
        for name, function in entries(one).items():
            typer.echo(f"  {signature(name, function)}\n      {summary(function)}")
