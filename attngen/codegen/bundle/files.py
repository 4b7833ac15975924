"""Reading a bundle: nothing of it is used that is not, byte for byte, what was written.

Hashes find damage and careless changes. They prove nothing about who wrote the bundle: machine code is as trusted as
the place it comes from.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from attngen.codegen.bundle.manifest import AGAIN, BundledFile, Manifest, load
from attngen.errors import BundleError

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk."""

    directory: Path
    manifest: Manifest

    def read(self, name: str) -> bytes:
        """The bytes of one of its files, checked anew: it may have changed since the bundle was opened."""
        file = next((file for file in self.manifest.files if file.name == name), None)
        if file is None:
            raise BundleError(f"{self.directory}: the manifest names no file {name!r}; {AGAIN}")
        path = self.directory / name
        try:
            found = path.read_bytes()
        except OSError as problem:
            raise BundleError(f"{path}: cannot be read: {problem.strerror or problem}; {AGAIN}") from None
        if len(found) != file.size:
            raise BundleError(f"{path}: has {len(found)} bytes and {file.size} were written; {AGAIN}")
        if hashlib.sha256(found).hexdigest() != file.sha256:
            raise BundleError(f"{path}: was changed after it was written (its sha256 does not match); {AGAIN}")
        return found


def open_bundle(directory: Path) -> Bundle:
    """The bundle of a directory, every file checked. Raises `BundleError` that names what is missing or changed."""
    path = directory / MANIFEST
    try:
        text = path.read_bytes()
    except OSError as problem:
        raise BundleError(
            f"{directory}: is not a bundle: {MANIFEST} cannot be read: {problem.strerror or problem}; "
            "make one with attngen aot SPEC -o DIR"
        ) from None
    bundle = Bundle(directory, load(text, str(path)))
    for file in bundle.manifest.files:
        inside = PurePosixPath(file.name)
        if inside.is_absolute() or ".." in inside.parts:
            raise BundleError(f"{path}: names {file.name!r}, which is outside of the bundle; {AGAIN}")
        bundle.read(file.name)
    return bundle


def measure(work: Path) -> tuple[BundledFile, ...]:
    """Every file below a directory, in the order of names."""
    found = []
    for path in sorted(path for path in work.rglob("*") if path.is_file()):
        data = path.read_bytes()
        found.append(BundledFile(path.relative_to(work).as_posix(), len(data), hashlib.sha256(data).hexdigest()))
    return tuple(found)
