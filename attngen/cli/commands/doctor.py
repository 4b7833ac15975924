"""`attngen doctor`."""

from __future__ import annotations

import typer


def doctor() -> None:
    """What attngen finds on this machine, a tiny kernel built and checked, and what to do. Exit code 1 if not ready."""
    from attngen.cli.health import examine

    report = examine()
    for label, fact in report.facts:
        typer.echo(f"{label:<18}{fact}")
    typer.echo("")
    for problem in report.problems:
        typer.echo(f"to do: {problem}")
    typer.echo("not ready" if report.problems else "ready")
    raise typer.Exit(1 if report.problems else 0)
