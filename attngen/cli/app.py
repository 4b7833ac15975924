"""The commands of `attngen`, in the order in which help lists them."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from attngen.cli.commands import aot, bench, cache, db, doctor, explain, list_, report, show, tune, verify
from attngen.cli.logs import logged
from attngen.errors import AttngenError

WRONG = 2
"""The exit code for input that is refused; a check that fails gives 1."""


class Group(TyperGroup):
    """Turns errors of attngen into one message and an exit code; with ATTNGEN_DEBUG set they keep their traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with logged():
                return super().invoke(ctx)
        except AttngenError as problem:
            if os.environ.get("ATTNGEN_DEBUG"):
                raise
            typer.echo(f"error: {problem}", err=True)
            raise typer.Exit(WRONG) from None


app = typer.Typer(
    cls=Group,
    help="A compiler for attention: look at mechanisms, check them, and see what they are compiled to.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("list")(list_.list_)
app.command("show")(show.show)
app.command("explain")(explain.explain)
app.command("verify")(verify.verify)
app.command("tune")(tune.tune)
app.command("bench")(bench.bench)
app.command("report")(report.report)
app.command("aot")(aot.aot)
app.add_typer(db.app, name="db")
app.add_typer(cache.app, name="cache")
app.command("doctor")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        from attngen import __version__

        typer.echo(f"attngen {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")]


@app.callback()
def common(version: Version = False) -> None:
    """Options before the command."""
