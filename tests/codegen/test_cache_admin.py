"""Listing, checking and clearing the store, and taking single entries out."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from attngen.codegen import cache
from attngen.errors import CacheError, UnsupportedError
from tests.codegen.store import KEY, Builder, build, forbid_writing, python


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "store"
    monkeypatch.setenv("ATTNGEN_CACHE_DIR", str(path))
    return path


def test_list_size_verify_and_clear(root: Path) -> None:
    assert (cache.list_entries(), cache.verify(), cache.total_size(), cache.clear()) == ((), (), 0, 0)
    assert not root.exists()
    entries = {build(key=cache.key({"ir": name})) for name in "abc"}
    assert set(cache.list_entries()) == entries
    assert cache.total_size() > sum(entry.size for entry in entries)
    assert {(finding.key, finding.problem) for finding in cache.verify()} == {(entry.key, None) for entry in entries}
    assert cache.clear() == 3
    assert cache.list_entries() == ()
    assert cache.total_size() == 0
    assert list((root / "locks").iterdir()) == []


def test_a_listing_leaves_out_what_cannot_be_read(root: Path) -> None:
    (build().directory / "manifest.json").unlink()
    kept = build(key=cache.key({"ir": "kept"}))
    assert cache.list_entries() == (kept,)
    assert cache.clear() == 2


def test_clear_says_why_it_cannot(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build()
    forbid_writing(root, monkeypatch, errno.EROFS)
    with pytest.raises(CacheError, match=r"cannot be cleared: .*Read-only file system"):
        cache.clear()


def test_discard(root: Path) -> None:
    entry = build()
    cache.discard(entry)
    cache.discard(entry)
    assert cache.lookup(KEY) is None
    builder = Builder()
    assert build(builder) == entry
    assert builder.calls == 1
    shutil.rmtree(root)
    cache.discard(entry)


def test_discard_in_a_read_only_directory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = build()
    forbid_writing(root, monkeypatch, errno.EROFS)
    cache.discard(entry)
    assert cache.lookup(KEY) is None
    assert not build().directory.is_relative_to(root)


def test_jit_disabled(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    cache.refuse_if_jit_disabled("causal, avx2")
    monkeypatch.setenv("ATTNGEN_DISABLE_JIT", "1")
    with pytest.raises(UnsupportedError) as caught:
        cache.refuse_if_jit_disabled("causal, avx2")
    assert f"causal, avx2 is not in the cache ({root}) and ATTNGEN_DISABLE_JIT forbids" in str(caught.value)


def test_a_warm_look_up_imports_nothing_heavy() -> None:
    code = "import sys; from attngen.codegen import cache; cache.lookup('0' * 64); print(*sys.modules)"
    modules = set(python(code).stdout.split())
    assert "attngen.codegen.cache" in modules
    assert not modules & {"torch", "filelock", "sympy", "jinja2"}
