"""`attngen cache`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import typer

app = typer.Typer(help="Built kernels on disk: list, clear, verify.", no_args_is_help=True, rich_markup_mode=None)


@app.command("ls")
def ls() -> None:
    """The built kernels: key, date, size, name, config."""
    from attngen.codegen import cache

    entries = cache.list_entries()
    for entry in entries:
        name = str(entry.made.get("spec", "")).split(" over", 1)[0].removeprefix("spec ").strip() or "?"
        facts = " ".join(filter(None, (_dtype(entry.made), str(entry.made.get("config", "")))))
        typer.echo(f"{entry.key[:12]}  {entry.date}  {_size(entry.size):>9}  {name}  {facts}")
    typer.echo(f"{len(entries)} kernels, {_size(cache.total_size())} in {cache.directory()}")


@app.command("clear")
def clear() -> None:
    """Remove every built kernel; programs that run go on undisturbed."""
    from attngen.codegen import cache

    removed = cache.clear()
    typer.echo(f"removed {removed} kernels from {cache.directory()}")


@app.command("verify")
def verify() -> None:
    """Check every file of every kernel against its hash. Exit code 1 when one is damaged."""
    from attngen.codegen import cache

    findings = cache.verify()
    damaged = [finding for finding in findings if finding.problem is not None]
    for finding in damaged:
        typer.echo(f"{finding.key[:12]}  damaged: {finding.problem}")
    sound = len(findings) - len(damaged)
    rebuilt = "; damaged ones are rebuilt when they are next wanted" if damaged else ""
    typer.echo(f"{sound} of {len(findings)} kernels are sound in {cache.directory()}{rebuilt}")
    raise typer.Exit(1 if damaged else 0)


def _dtype(made: Mapping[str, Any]) -> str:
    found = re.search(r"dtype='(\w+)'", str(made.get("problem", "")))
    return found[1] if found else ""


def _size(number: int) -> str:
    from attngen.explain.page import binary

    return binary(number)
