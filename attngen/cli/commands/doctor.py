"""`attngen doctor`."""

from __future__ import annotations

import typer


def doctor() -> None:
    """What this machine offers; builds and checks a tiny kernel.

    Ends with "ready", or with what to do and exit code 1.
    """
    from attngen.cli.health import examine

    report = examine()
    for label, fact in report.facts:
        typer.echo(f"{label:<22}{fact}")
    typer.echo("")
    for problem in report.problems:
        typer.echo(f"to do: {problem}")
    typer.echo("not ready" if report.problems else "ready")
    raise typer.Exit(1 if report.problems else 0)
