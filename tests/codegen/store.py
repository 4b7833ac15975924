"""What the tests of the store share: a small builder, and file systems that refuse."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import attngen.errors
from attngen.codegen import cache

REPOSITORY = Path(attngen.errors.__file__).parents[1]
KEY = cache.key({"ir": "softmax", "target": "avx2"})
CODE = b"\x7fELF" + bytes(range(256)) * 4
MADE = {"spec": "softmax", "config": {"tile": 64}, "target": "avx2", "compiler": "g++ 12"}


class Builder:
    """Writes the files of a kernel, and counts."""

    def __init__(self, code: bytes = CODE) -> None:
        self.code = code
        self.directories: list[Path] = []

    def __call__(self, directory: Path) -> None:
        self.directories.append(directory)
        (directory / "kernel.so").write_bytes(self.code)
        (directory / "kernel.cpp").write_text("int x;")

    @property
    def calls(self) -> int:
        return len(self.directories)


def build(builder: Builder | None = None, key: str = KEY) -> cache.Entry:
    return cache.build_once(key, builder or Builder(), MADE)


def leftovers(root: Path) -> list[Path]:
    return list((root / "tmp").iterdir())


def forbid_writing(root: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Every attempt to make something under `root` fails, as on a read-only or full file system."""

    def guard(function: Callable[..., object], position: int) -> Callable[..., object]:
        def guarded(*args: object, **kwargs: object) -> object:
            target = Path(str(args[position]))
            if target.is_relative_to(root) and not (function is real_mkdir and target.is_dir()):
                raise OSError(number, os.strerror(number), str(target))
            return function(*args, **kwargs)

        return guarded

    real_mkdir = os.mkdir
    monkeypatch.setattr(os, "mkdir", guard(os.mkdir, 0))
    monkeypatch.setattr(os, "rename", guard(os.rename, 1))
    monkeypatch.setattr(os, "replace", guard(os.replace, 0))


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
