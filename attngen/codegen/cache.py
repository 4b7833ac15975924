"""The store of built kernels: addressed by content, written once, verified at every load.

    root/kernels/<key>/    the files of an entry and its manifest.json; appears by one rename, never half
    root/locks/<key>.lock  held while the entry is built, so that a kernel is built once
    root/tmp/<key>.*       builds under way, and entries on their way out

The lock only saves work: without it (a file system that has none) the rename still keeps every entry whole. Nothing
looks at modification times. An entry that is not exactly what was written is rebuilt, never loaded.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attngen import settings
from attngen.codegen import cache_place
from attngen.codegen.cache_admin import Finding, clear, directory, list_entries, total_size, verify
from attngen.codegen.cache_entry import FORMAT, Damaged, Entry, File, canonical, read, seal
from attngen.codegen.cache_files import sweep, trash
from attngen.codegen.cache_lock import locked
from attngen.errors import BuildError, CacheError, UnsupportedError

__all__ = [
    "Entry",
    "File",
    "Finding",
    "build_once",
    "clear",
    "directory",
    "discard",
    "key",
    "list_entries",
    "lookup",
    "refuse_if_jit_disabled",
    "total_size",
    "verify",
]

_log = logging.getLogger("attngen.cache")
_ATTEMPTS = 8
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS))
_UNUSABLE = _FULL | {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG}
_VANISHED = frozenset((errno.ENOENT, errno.ESTALE))
_rejected: set[Path] = set()


class _Vanished(Exception):
    """Another process removed the directory that we were building in."""


def key(parts: Mapping[str, str]) -> str:
    """The address of a kernel: a sha256 over everything that its code depends on, by name."""
    return hashlib.sha256(canonical({"format": FORMAT, "parts": dict(parts)})).hexdigest()


def lookup(key: str) -> Entry | None:
    """The verified entry of `key`, or None: missing, damaged, or in a directory that others can write to."""
    if len(key) != 64 or not set(key) <= set("0123456789abcdef"):
        raise CacheError(f"{key!r} is not a cache key: 64 hexadecimal digits, as cache.key() gives them")
    return next((entry for root in cache_place.readable() if (entry := _load(root, key)) is not None), None)


def build_once(key: str, builder: Callable[[Path], object], made: Mapping[str, Any]) -> Entry:
    """The entry of `key`; where there is none, `builder(directory)` writes its files into a fresh directory.

    One process builds, others that want the same key wait for it. `made` (spec text, config, target, compiler) goes
    into the manifest and must be JSON. Where the cache directory cannot be used (read-only, full, another user's) the
    kernel is built for this process alone, and one warning says so. What the builder raises comes through and leaves
    no entry. Raises `CacheError` where there is no usable directory at all.
    """
    found = lookup(key)
    vanished = 0
    while found is None:
        root = None
        try:
            root = cache_place.writable()
            found = _build_in(root, key, builder, made)
        except (_Vanished, OSError) as problem:
            if isinstance(problem, _Vanished) or problem.errno in _VANISHED:
                vanished += 1
                if vanished % _ATTEMPTS == 0:
                    cache_place.demote(root or directory(), "another process keeps removing it")
            elif root is not None and problem.errno in _UNUSABLE:
                cache_place.demote(root, problem.strerror or str(problem))
            else:
                raise
    return found


def discard(entry: Entry) -> None:
    """Take an entry out of the cache: for one whose hashes are right and which still does not load."""
    root = entry.directory.parent.parent
    try:
        trash(root, entry.directory)
    except FileNotFoundError:
        pass  # the whole directory is gone
    except OSError as problem:
        _rejected.add(entry.directory)
        cache_place.demote(root, problem.strerror or str(problem))


def refuse_if_jit_disabled(what: str) -> None:
    """Raise `UnsupportedError` where the settings forbid compiling. Call it when `lookup` found nothing."""
    if settings.current().disable_jit:
        variable = settings.variable("disable_jit")
        raise UnsupportedError(
            f"{what} is not in the cache ({directory()}) and {variable} forbids compiling it. "
            f"Unset {variable}, or run once without it on this machine to fill the cache."
        )


def _build_in(root: Path, key: str, builder: Callable[[Path], object], made: Mapping[str, Any]) -> Entry:
    cache_place.make(root)
    with locked(root, key) as held:
        if held:
            sweep(root, key)
        found = _load(root, key, quiet=True)
        if found is not None:
            return found
        work = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=root / "tmp"))
        try:
            _run(builder, work)
            files, date = seal(work, key, made)
            return _publish(root, work, Entry(key, root / "kernels" / key, files, dict(made), date))
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _run(builder: Callable[[Path], object], work: Path) -> None:
    try:
        builder(work)
    except Exception as problem:
        if not work.is_dir():
            raise _Vanished from problem
        if isinstance(problem, OSError) and problem.errno not in _FULL:
            # Not the directory's fault: another directory would not help.
            raise BuildError(f"the builder of a kernel failed: {problem}") from problem
        raise


def _publish(root: Path, work: Path, entry: Entry) -> Entry:
    for _ in range(_ATTEMPTS):
        try:
            work.rename(entry.directory)
        except OSError as problem:
            if problem.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        else:
            return entry
        # A damaged entry is in the way or, where there is no lock, a sound one of another process.
        found = _load(root, entry.key, quiet=True)
        if found is not None:
            return found
        trash(root, entry.directory)
    raise _Vanished


def _load(root: Path, key: str, *, quiet: bool = False) -> Entry | None:
    path = root / "kernels" / key
    if path in _rejected:
        return None
    try:
        return read(path, key)
    except Damaged as problem:
        _log.log(logging.DEBUG if quiet else logging.WARNING, "the cache entry %s is rebuilt: %s", path, problem)
    except OSError as problem:
        _log.debug("the cache entry %s cannot be read: %s", path, problem)
    return None
