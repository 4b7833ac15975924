"""One built kernel on disk: its files and a manifest that holds the hash of each. Nothing unverified is loaded."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any

from attngen.codegen.cache_place import unsafe

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class File:
    """A file of an entry: its path inside the entry, its size in bytes, its sha256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A built kernel. `made` is what its builder said about it: spec text, config, target, compiler."""

    key: str
    directory: Path
    files: tuple[File, ...]
    made: Mapping[str, Any] = field(compare=False)
    date: str = field(compare=False)

    def path(self, name: str) -> Path:
        """The absolute path of one of the files."""
        return self.directory / name

    @property
    def size(self) -> int:
        """Bytes of all files, the manifest not counted."""
        return sum(file.size for file in self.files)


class Damaged(Exception):
    """An entry that must not be loaded; the text says why. It never leaves the cache."""


def canonical(value: object) -> bytes:
    """JSON with one spelling for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def seal(work: Path, key: str, made: Mapping[str, Any]) -> tuple[tuple[File, ...], str]:
    """Write the manifest of the files that a builder left in `work`. Returns the files and the date."""
    files = tuple(_measure(work, path) for path in sorted(work.rglob("*")) if not path.is_dir())
    date = datetime.now(UTC).isoformat(timespec="seconds")
    body = {"format": FORMAT, "key": key, "date": date, "made": dict(made), "files": [asdict(file) for file in files]}
    body["digest"] = hashlib.sha256(canonical(body)).hexdigest()
    (work / MANIFEST).write_text(json.dumps(body, indent=1, sort_keys=True, allow_nan=False) + "\n")
    _protect(work / MANIFEST)
    return files, date


def read(directory: Path, key: str, *, check_files: bool = True) -> Entry | None:
    """The entry in `directory`, or None where there is none. Raises `Damaged`.

    `check_files=False` trusts the manifest about the files: for listings, never for loading.
    """
    try:
        _require_safe(directory.lstat(), directory.name)
    except FileNotFoundError:
        return None
    try:
        with _open(directory, MANIFEST) as stream:
            entry = _parse(stream.read(), directory, key)
        if check_files:
            for file in entry.files:
                _check(directory, file)
    except OSError as problem:
        raise Damaged(str(problem)) from problem
    return entry


def _measure(work: Path, path: Path) -> File:
    _protect(path)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return File(path.relative_to(work).as_posix(), os.fstat(stream.fileno()).st_size, digest)


def _protect(path: Path) -> None:
    # The umask of the process must not leave code that others can change.
    path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o755)


def _parse(text: bytes, directory: Path, key: str) -> Entry:
    try:
        body = json.loads(text)
        digest = body.pop("digest")
        if digest != hashlib.sha256(canonical(body)).hexdigest():
            raise Damaged("the manifest does not match its digest")
        if body["format"] != FORMAT or body["key"] != key:
            raise Damaged(f"the manifest is of format {body['format']}, key {body['key']}")
        files = tuple(File(str(f["name"]), int(f["size"]), str(f["sha256"])) for f in body["files"])
        entry = Entry(key, directory, files, dict(body["made"]), str(body["date"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise Damaged(f"the manifest cannot be read: {problem!r}") from problem
    for file in files:
        path = PurePosixPath(file.name)
        if path.is_absolute() or ".." in path.parts:
            raise Damaged(f"the manifest names {file.name!r}, which is outside the entry")
    return entry


def _check(directory: Path, file: File) -> None:
    with _open(directory, file.name) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size != file.size:
            raise Damaged(f"{file.name} has {size} bytes, {file.size} were written")
        if hashlib.file_digest(stream, "sha256").hexdigest() != file.sha256:
            raise Damaged(f"{file.name} does not match its sha256")


def _open(directory: Path, name: str) -> BufferedReader:
    # A pipe in the place of a file must not block.
    stream = os.fdopen(os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    try:
        info = os.fstat(stream.fileno())
        _require_safe(info, name)
        if not stat.S_ISREG(info.st_mode):
            raise Damaged(f"{name} is not a regular file")
    except Damaged:
        stream.close()
        raise
    return stream


def _require_safe(info: os.stat_result, name: str) -> None:
    reason = unsafe(info)
    if reason is not None:
        raise Damaged(f"{name}: {reason}")
