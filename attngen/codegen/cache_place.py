"""Where built kernels live, and whether code may be loaded from there.

The user's cache directory is the place, unless it cannot be written to or others could have written to it. Then this
process builds into a private temporary directory, and one warning names the directory and the reason.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import stat
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from attngen import settings
from attngen.errors import CacheError

_log = logging.getLogger("attngen.cache")
_guard = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Refuge:
    """The private directory that stands in for an unusable one, and why."""

    directory: Path
    pid: int
    reason: str


_refuges: dict[Path, _Refuge] = {}


def default_directory() -> Path:
    """The user's cache directory for attngen, by platformdirs where it is installed, else by the XDG rule."""
    try:
        import platformdirs  # optional: the compile-and-run path works without it
    except ImportError:
        return _xdg_cache() / "attngen"
    return Path(platformdirs.user_cache_dir("attngen", appauthor=False))


def _xdg_cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():
        return base
    try:
        return Path("~/.cache").expanduser()
    except RuntimeError:  # there is no home directory; `writable` says so
        return Path("~/.cache")


def configured() -> Path:
    """The cache directory of the settings, links resolved. It need not exist."""
    chosen = settings.current().cache_dir
    if chosen is not None:
        return Path(os.path.realpath(chosen))
    default = default_directory()
    # Without a home directory `~` stays as it is; resolving it would make a folder named ~ in the working directory.
    return Path(os.path.realpath(default)) if default.is_absolute() else default


def unsafe(info: os.stat_result) -> str | None:
    """Why somebody else could have written to this file or directory, or None."""
    if info.st_uid not in (0, os.geteuid()):
        return f"it belongs to another user (uid {info.st_uid})"
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write to it (mode {stat.S_IMODE(info.st_mode):04o}; chmod go-w)"
    return None


def distrust(root: Path) -> str | None:
    """Why no code may be loaded from `root`, or None. A missing directory is not distrusted."""
    for directory in (root, root / "kernels"):
        try:
            reason = unsafe(directory.lstat())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as problem:
            return problem.strerror or str(problem)
        if reason is not None:
            return reason
    for parent in root.parents:
        try:
            mode = parent.lstat().st_mode
        except OSError:
            continue
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"everybody may replace it: {parent} is world-writable"
    return None


def readable() -> tuple[Path, ...]:
    """The directories that code may be loaded from, in order of preference."""
    root = configured()
    trusted = (root,) if root.is_absolute() and distrust(root) is None else ()
    refuge = _refuge_of(root)
    return trusted if refuge is None else (*trusted, refuge.directory)


def writable() -> Path:
    """The directory to build into, made if missing: the user's, or this process's private one."""
    root = configured()
    refuge = _refuge_of(root)
    if refuge is not None:
        return refuge.directory
    if not root.is_absolute():
        return demote(root, "the home directory is unknown")
    reason = distrust(root)
    if reason is None:
        try:
            make(root)
        except FileNotFoundError:
            raise  # somebody is removing it; the caller tries again
        except OSError as problem:
            reason = problem.strerror or str(problem)
        else:
            reason = distrust(root)  # somebody else may have made it in between
    return root if reason is None else demote(root, reason)


def make(root: Path) -> None:
    """Create the directories of a cache: nobody else can write there, whatever the umask."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for part in ("kernels", "locks", "tmp"):
        (root / part).mkdir(mode=0o700, exist_ok=True)


def demote(root: Path, reason: str) -> Path:
    """Give up `root` for this process: returns the private directory, and warns the first time.

    Raises `CacheError` when `root` is already the private directory, or when there can be none.
    """
    with _guard:
        owner = next((known for known, refuge in _refuges.items() if refuge.directory == root), None)
        if owner is not None:
            raise CacheError(_nowhere(owner, _refuges[owner].reason, root, reason))
        known = _refuge_of(root)
        if known is not None:
            return known.directory
        try:
            private = Path(os.path.realpath(tempfile.mkdtemp(prefix="attngen-")))
            make(private)
        except OSError as problem:
            raise CacheError(_nowhere(root, reason, Path(tempfile.gettempdir()), str(problem))) from problem
        _refuges[root] = _Refuge(private, os.getpid(), reason)
        atexit.register(_remove, private, os.getpid())
    _log.warning(
        "the cache directory %s is not used: %s. Kernels go to %s and are lost when this process ends. "
        "Set %s to a directory of your own that has free space.",
        root,
        reason,
        private,
        settings.variable("cache_dir"),
    )
    return private


def _refuge_of(root: Path) -> _Refuge | None:
    refuge = _refuges.get(root)
    # After a fork the directory is the parent's, which removes it when it ends.
    return refuge if refuge is not None and refuge.pid == os.getpid() else None


def _remove(private: Path, pid: int) -> None:
    if pid == os.getpid():
        shutil.rmtree(private, ignore_errors=True)


def _nowhere(root: Path, reason: str, private: Path, problem: str) -> str:
    variable = settings.variable("cache_dir")
    return (
        f"there is no directory to build kernels in. {root}: {reason}. {private}: {problem}. "
        f"Set {variable} to a directory of your own that has free space."
    )
