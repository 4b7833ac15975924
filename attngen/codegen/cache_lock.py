"""The lock that lets one process build a kernel while the others wait."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# A file system without locks: the cache works there too, it may only build a kernel twice.
_NO_LOCKS = frozenset((errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP))


@contextmanager
def locked(root: Path, key: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of `key`. Yields False where it is not held: no locks here, or `wait=False` and it is taken."""
    import filelock  # 50 ms to import, and a warm look-up needs no lock

    lock = filelock.FileLock(root / "locks" / f"{key}.lock")
    try:
        lock.acquire(blocking=wait)
    except filelock.Timeout:
        held = False
    except NotImplementedError:
        held = False
    except OSError as problem:
        if problem.errno not in _NO_LOCKS:
            raise
        held = False
    else:
        held = True
    try:
        yield held
    finally:
        if held:
            lock.release()
