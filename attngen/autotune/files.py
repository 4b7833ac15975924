"""Files of samples: a line that says what the file is and of which device, then a line for each sample.

Lines are only ever added, in one write under a lock, so two tuners lose nothing, and one that is killed loses at most
the line that it was writing. What cannot be read is named and skipped, and never written over: where the file of a
device is of a newer format, samples go into another file beside it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attngen.autotune.sample import Sample, Unreadable, line, read
from attngen.codegen.cache_lock import locked
from attngen.errors import CacheError

FORMAT = 1
KIND = "attngen tuning samples"
SUFFIX = ".jsonl"
log = logging.getLogger("attngen.autotune")


@dataclass(frozen=True, slots=True)
class Table:
    """The samples of a file, and what is wrong with it: a sentence for each problem, with the line's number.

    `device` is None where the first line does not tell; then there are no samples.
    """

    path: Path
    device: str | None
    samples: tuple[Sample, ...] = ()
    problems: tuple[str, ...] = ()


def load(path: Path) -> Table:
    """The table in a file; whatever is in it, nothing is raised."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as problem:
        return Table(path, None, problems=(f"cannot be read: {problem.strerror or problem}",))
    first, *rest = text.split("\n")
    device = _device(first)
    if isinstance(device, _Refused):
        return Table(path, None, problems=(device.reason,))
    samples, problems = [], []
    for number, each in enumerate(rest, 2):
        if not each.strip():
            continue
        try:
            samples.append(read(each))
        except Unreadable as problem:
            problems.append(f"line {number} is skipped: {problem}")
    return Table(path, device, tuple(samples), tuple(problems))


@dataclass(frozen=True, slots=True)
class _Refused:
    reason: str


def _device(first: str) -> str | _Refused:
    try:
        head: Any = json.loads(first)
        kind, number, device = head["kind"], head["format"], head["device"]
    except (ValueError, KeyError, TypeError):
        return _Refused("its first line is not that of a table of samples")
    if kind != KIND or type(number) is not int or type(device) is not str:
        return _Refused("its first line is not that of a table of samples")
    if number > FORMAT:
        return _Refused(f"it is of format {number}, and this version of attngen reads formats up to {FORMAT}")
    return device


def header(device: str) -> str:
    """The first line of a file."""
    return json.dumps({"kind": KIND, "format": FORMAT, "device": device})


def name_of(device: str) -> str:
    """A name for the file of a device: what it holds is in its first line."""
    return re.sub(r"[^a-z0-9_]+", "-", device.lower()).strip("-")


def tables(folder: Path) -> Iterator[Table]:
    """Every file of samples in a folder, by name."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and path.is_file())
    except OSError:
        return
    for path in paths:
        yield load(path)


def append(folder: Path, device: str, samples: Iterable[Sample]) -> Path:
    """Adds samples to the file of a device in a folder, made if missing; returns its path.

    They are on the disk when it returns. Raises `CacheError` where the folder cannot be written to.
    """
    lines = [line(sample) for sample in samples]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(folder):
            path = _path(folder, device)
            _write(path, device, lines)
    except OSError as problem:
        raise CacheError(f"the samples cannot be kept in {folder}: {problem.strerror or problem}") from problem
    return path


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The lock of a folder, where the file system has locks: without, one write still adds whole lines."""
    (folder / "locks").mkdir(mode=0o700, exist_ok=True)
    with locked(folder, "samples"):
        yield


def _path(folder: Path, device: str) -> Path:
    """The file of a device to write to: the first of its names that is free or can be read."""
    for number in range(1, 1000):
        path = folder / f"{name_of(device)}{'' if number == 1 else f'-{number}'}{SUFFIX}"
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                first = file.readline()
        except FileNotFoundError:
            return path
        found = _device(first) if first else device
        if found == device:
            return path
        reason = found.reason if isinstance(found, _Refused) else f"it is of the device {found}"
        log.warning("the tuning table %s is left alone: %s", path, reason)
    raise CacheError(f"{folder}: no name is left for a table of {device}")


def _write(path: Path, device: str, lines: list[str]) -> None:
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(file).st_size
        before = [] if size else [header(device)]
        # A writer that was killed may have left half a line: it stays alone, and is skipped.
        begun = "\n" if size and os.pread(file, 1, size - 1) != b"\n" else ""
        data = (begun + "".join(f"{each}\n" for each in (*before, *lines))).encode()
        if os.write(file, data) != len(data):
            raise OSError(f"{path}: the disk took a part of the lines")
        os.fsync(file)
    finally:
        os.close(file)


def rewrite(folder: Path, path: Path, keep: Callable[[Sample], bool]) -> int:
    """Takes samples out of a file, those that are not to keep; what cannot be read stays. Returns how many went.

    The new file takes the place of the old one by a rename. Raises `CacheError` where the folder cannot be written to.
    """
    try:
        with _alone(folder):
            first, *rest = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
            lines = [each for each in rest if each.strip()]
            chosen = [each for each in lines if _stays(each, keep)]
            for left in folder.glob(f".{path.name}.*"):
                left.unlink(missing_ok=True)  # of somebody who was killed here
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=folder)
            with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write("".join(f"{each}\n" for each in (first, *chosen)))
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
    except OSError as problem:
        raise CacheError(f"{path} cannot be rewritten: {problem.strerror or problem}") from problem
    return len(lines) - len(chosen)


def _stays(text: str, keep: Callable[[Sample], bool]) -> bool:
    try:
        return keep(read(text))
    except Unreadable:
        return True
