"""`attngen db`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attngen.errors import InputError

if TYPE_CHECKING:
    from attngen.autotune.admin import Entry
    from attngen.autotune.key import Key

app = typer.Typer(
    help="What tuning has learned: show, carry, merge, compare.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", metavar="NAME", help="A part of the device's name, as show has it.", show_default=False),
]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]


@app.command("show")
def show(
    device: DeviceOption = None,
    every: Annotated[bool, typer.Option("--all", help="Every sample, not what they say together.")] = False,
) -> None:
    """What is known of each device: the config of each kind of call, and how sure that is."""
    from attngen.autotune import admin, database

    tables = database.every_table()
    known = admin.devices(tables)
    here = _here({sample.key.head.backend for samples in known.values() for sample in samples})
    for name, samples in known.items():
        if device is not None and device.lower() not in name.lower():
            continue
        mine = name in here
        typer.echo(f"{name}{' (here)' if mine else ''}: {len(samples)} samples")
        for entry in admin.entries(samples, _versions if mine else None):
            typer.echo(f"  {entry.name}: {entry.key}\n    {_said(entry)}")
            if every:
                for one in admin.ordered(entry.samples):
                    bounds = f"{one.ratio:.4f} ({one.low:.4f} to {one.high:.4f})"
                    typer.echo(
                        f"      {one.date} {bounds} {1e3 * one.median:.4g} ms, {one.rounds} rounds: {one.config}"
                    )
    for table in tables:
        for problem in table.problems:
            typer.echo(f"skipped: {table.path}: {problem}")
    count = sum(len(table.samples) for table in tables)
    typer.echo(f"{count} samples in {len(tables)} files; yours are in {database.user_folder()}")


@app.command("export")
def export(file: FileArgument, device: DeviceOption = None) -> None:
    """Write the samples of one device into a new file, shipped ones included."""
    from attngen.autotune import admin

    name, count = admin.export(file, device)
    typer.echo(f"{file}: {count} samples of {name}")


@app.command("import")
def import_(files: Annotated[list[Path], typer.Argument(metavar="FILE...", show_default=False)]) -> None:
    """Add the samples of files to yours; those that are there already are not added twice."""
    from attngen.autotune import admin

    for file in files:
        name, new, count = admin.take_in(file)
        typer.echo(f"{file}: {new} of {count} samples are new, of {name}")


@app.command("merge")
def merge(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The new file.", show_default=False)],
) -> None:
    """Put the samples of several files of one device into a new one, each once."""
    from attngen.autotune import admin

    name, count = admin.export(out, None, [admin.read(file) for file in files])
    typer.echo(f"{out}: {count} samples of {name}")


@app.command("diff")
def diff(one: FileArgument, other: Annotated[Path, typer.Argument(metavar="OTHER", show_default=False)]) -> None:
    """The kinds of calls for which two files choose different configs. Exit code 1 where there are some."""
    from attngen.autotune import admin

    found = list(admin.diff(one, other))
    for key, a, b in found:
        name = next(entry.name for entry in (a, b) if entry is not None)
        typer.echo(f"{name}: {key}")
        for path, entry in ((one, a), (other, b)):
            typer.echo(f"  {path.name}: {'nothing' if entry is None else _said(entry)}")
    typer.echo(f"{len(found)} differences")
    raise typer.Exit(1 if found else 0)


@app.command("prune")
def prune(
    older_than: Annotated[
        int | None,
        typer.Option("--older-than", metavar="DAYS", min=0, help="Samples of more days.", show_default=False),
    ] = None,
    stale: Annotated[bool, typer.Option("--stale", help="Samples of other versions than are here.")] = False,
    keep: Annotated[
        int | None,
        typer.Option("--keep", metavar="N", min=1, help="All but the newest N of each config.", show_default=False),
    ] = None,
) -> None:
    """Take samples out of your files; lines that cannot be read stay."""
    from attngen.autotune import admin

    if older_than is None and keep is None and not stale:
        raise InputError("prune: nothing is said about what goes; give --older-than DAYS, --stale or --keep N")
    for path, count in admin.prune(older_than=older_than, stale=_versions if stale else None, keep=keep):
        typer.echo(f"{path}: {count} samples removed")


def _said(entry: Entry) -> str:
    said = entry.verdict
    stale = "; stale" if said.stale else ""
    if said.config == said.base:
        return f"{said.config}: as built in, nothing is faster by more than the noise; {said.date[:10]}{stale}"
    gain = f"{1 / said.ratio:.3f} x the built-in one ({1 / said.high:.3f} to {1 / said.low:.3f})"
    times = "1 session" if said.samples == 1 else f"{said.samples} sessions"
    return f"{said.config}: {gain}, {times}, {said.date[:10]}{stale}"


def _here(backends: set[str]) -> tuple[str, ...]:
    """The devices of this machine that these backends build for."""
    from attngen.autotune.identity import device_of
    from attngen.codegen.backends.cpu.backend import CpuBackend
    from attngen.codegen.backends.triton.backend import TritonBackend

    made = {"cpu": CpuBackend, "triton": TritonBackend}
    found = (device_of(made[name]()) for name in sorted(backends & set(made)))
    return tuple(device for device in found if device is not None)


def _versions(key: Key) -> dict[str, str]:
    from attngen.autotune.identity import versions

    return dict(versions(key.head.backend))
