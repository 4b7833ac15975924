"""Moving directories of the cache so that nobody ever sees half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path


def children(path: Path) -> list[Path]:
    """What is in a directory, sorted; nothing where the directory is missing."""
    try:
        return sorted(path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def trash(root: Path, path: Path) -> bool:
    """Remove an entry: a rename first, so that it goes at once. False where it was gone already."""
    grave = tempfile.mkdtemp(prefix=f"{path.name}.", dir=root / "tmp")
    try:
        path.replace(Path(grave, "entry"))
    except FileNotFoundError:
        return False
    finally:
        shutil.rmtree(grave, ignore_errors=True)
    return True


def sweep(root: Path, key: str) -> None:
    """Remove what a killed build of `key` left. Call it with the lock held: then no live build is there."""
    for path in children(root / "tmp"):
        if path.name.startswith(f"{key}."):
            shutil.rmtree(path, ignore_errors=True)


def size(root: Path) -> int:
    """Bytes of all files under a directory, which others may be changing."""
    total = 0
    for parent, _, names in os.walk(root):
        for name in names:
            try:
                total += Path(parent, name).lstat().st_size
            except FileNotFoundError:
                continue
    return total
