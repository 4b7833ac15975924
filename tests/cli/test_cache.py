from __future__ import annotations

from pathlib import Path

import pytest

from attngen.codegen import cache
from tests.cli.conftest import Run


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "cache"
    monkeypatch.setenv("ATTNGEN_CACHE_DIR", str(root))
    return root


def fill(name: str) -> cache.Entry:
    def build(directory: Path) -> None:
        (directory / "kernel.so").write_bytes(b"x" * 2048)

    made = {"spec": f"spec {name} over sequence", "problem": "Problem(dtype='bf16')", "config": "q64 k192"}
    return cache.build_once(cache.key(made), build, made)


def test_ls(run: Run, store: Path) -> None:
    assert run("cache", "ls").output == f"0 kernels, 0 bytes in {store}\n"
    entry = fill("window")
    first, last = run("cache", "ls").output.splitlines()
    assert first == f"{entry.key[:12]}  {entry.date}      2 KiB  window  bf16 q64 k192"
    assert last.startswith("1 kernels, ")


def test_clear(run: Run, store: Path) -> None:
    fill("one")
    assert run("cache", "clear").output == f"removed 1 kernels from {store}\n"
    assert cache.list_entries() == ()


def test_verify(run: Run, store: Path) -> None:
    entry = fill("one")
    sound = run("cache", "verify")
    assert (sound.exit_code, sound.output) == (0, f"1 of 1 kernels are sound in {store}\n")
    entry.path("kernel.so").write_bytes(b"y" * 2048)
    damaged = run("cache", "verify")
    assert damaged.exit_code == 1
    assert f"{entry.key[:12]}  damaged: kernel.so does not match its sha256" in damaged.output
    assert "0 of 1 kernels are sound" in damaged.output
