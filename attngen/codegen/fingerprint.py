"""A hash of the compiler itself: part of the key of whatever it generates."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


@cache
def package_fingerprint() -> str:
    """A hash of the sources that decide what is generated, so that a changed compiler never finds old kernels."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for folder in ("ir", "codegen"):
        for file in sorted((root / folder).rglob("*.py")):
            digest.update(file.relative_to(root).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
