"""Writing a bundle: into a folder beside its place, which one rename turns into the bundle. Nobody ever sees half of
one, and nothing that is not a bundle is ever removed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attngen.codegen.bundle.files import MANIFEST
from attngen.codegen.bundle.manifest import load
from attngen.errors import BundleError, InputError


def refuse_occupied(directory: Path, force: bool) -> None:
    """Raises `InputError` where a bundle would take the place of something. With `force` it may replace a bundle."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise InputError(f"{directory}: is a file; give a directory that is empty or does not exist")
    if not any(directory.iterdir()):
        return
    others = _others(directory)
    if others is None:
        raise InputError(
            f"{directory}: is not empty and is no bundle; give a directory that is empty or does not exist"
        )
    if others:
        raise InputError(
            f"{directory}: beside a bundle it holds {', '.join(others[:3])}, which would be lost; give another one"
        )
    if not force:
        raise InputError(
            f"{directory}: holds a bundle; give another directory, or replace it with --force (force=True)"
        )


@contextmanager
def published(directory: Path, force: bool) -> Iterator[Path]:
    """A folder to write a bundle into. It becomes `directory` when the block ends; if it raises, nothing is changed."""
    place = Path(os.path.realpath(directory))
    refuse_occupied(place, force)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    except OSError as problem:
        raise InputError(f"{directory}: cannot be written: {problem.strerror or problem}") from None
    try:
        # Its mode is the user's umask; the folder around it is private.
        made = work / "new"
        made.mkdir()
        yield made
        # Builds take a while: something may have come in between.
        refuse_occupied(place, force)
        _move(made, place, work / "old")
    finally:
        _remove(work, place)


def _move(made: Path, place: Path, aside: Path) -> None:
    try:
        if place.exists() and any(place.iterdir()):
            place.rename(aside)
        made.rename(place)
    except OSError as problem:
        if aside.exists() and not place.exists():
            aside.rename(place)
        raise InputError(f"{place}: cannot be written: {problem.strerror or problem}") from problem


def _remove(work: Path, place: Path) -> None:
    aside = work / "old"
    if aside.exists() and not place.exists():  # what was there is worth more than what was not finished
        aside.rename(place)
    shutil.rmtree(work, ignore_errors=True)


def _others(directory: Path) -> list[str] | None:
    """What is in a directory beside a bundle; None where there is no bundle."""
    try:
        manifest = load((directory / MANIFEST).read_bytes(), str(directory / MANIFEST))
    except (BundleError, OSError):
        return None
    known = {MANIFEST, *(file.name for file in manifest.files)}
    files = (path for path in directory.rglob("*") if path.is_symlink() or not path.is_dir())
    present = sorted(path.relative_to(directory).as_posix() for path in files)
    return [name for name in present if name not in known]
