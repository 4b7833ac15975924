"""What `attngen cache ls | clear | verify` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attngen.codegen import cache_place
from attngen.codegen.cache_entry import Damaged, Entry, read
from attngen.codegen.cache_files import children, size, sweep, trash
from attngen.codegen.cache_lock import locked
from attngen.errors import CacheError


@dataclass(frozen=True, slots=True)
class Finding:
    """What `verify` says about one entry; `problem` is None for a sound one."""

    key: str
    directory: Path
    problem: str | None


def directory() -> Path:
    """The cache directory of the settings, links resolved. It need not exist."""
    return cache_place.configured()


def list_entries() -> tuple[Entry, ...]:
    """The entries of the cache directory, oldest first. Their files are not checked: `verify` does that."""
    found = []
    for path in children(directory() / "kernels"):
        try:
            entry = read(path, path.name, check_files=False)
        except (Damaged, OSError):
            continue
        if entry is not None:
            found.append(entry)
    return tuple(sorted(found, key=lambda entry: (entry.date, entry.key)))


def verify() -> tuple[Finding, ...]:
    """Check the hash of every file of every entry. A damaged entry is rebuilt when it is next wanted."""
    root = directory()
    reason = cache_place.distrust(root)
    return tuple(_find(path, reason) for path in children(root / "kernels"))


def total_size() -> int:
    """Bytes under the cache directory, builds under way included."""
    return size(directory())


def clear() -> int:
    """Remove every entry; returns how many. Builds under way and kernels already loaded go on undisturbed.

    Raises `CacheError` where the directory belongs to somebody else or cannot be written to.
    """
    root = directory()
    reason = cache_place.distrust(root)
    if reason is not None:
        raise CacheError(f"the cache directory {root} is not cleared: {reason}")
    if not root.exists():
        return 0
    removed = 0
    try:
        cache_place.make(root)
        for path in children(root / "kernels"):
            removed += trash(root, path)
        _remove_leftovers(root)
    except FileNotFoundError:
        pass  # somebody else removed the whole directory
    except OSError as problem:
        raise CacheError(f"the cache directory {root} cannot be cleared: {problem}") from problem
    return removed


def _remove_leftovers(root: Path) -> None:
    names = {path.name.partition(".")[0] for part in ("tmp", "locks") for path in children(root / part)}
    for name in sorted(names):
        with locked(root, name, wait=False) as held:
            if held:
                sweep(root, name)
                (root / "locks" / f"{name}.lock").unlink(missing_ok=True)


def _find(path: Path, distrusted: str | None) -> Finding:
    try:
        read(path, path.name)
    except (Damaged, OSError) as problem:
        return Finding(path.name, path, str(problem))
    return Finding(path.name, path, distrusted)
