"""The store on one process: what is stored, and what is not loaded again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attngen.codegen import cache, cache_entry
from attngen.errors import BuildError, CacheError
from tests.codegen.store import CODE, KEY, MADE, Builder, build, leftovers


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "store"
    monkeypatch.setenv("ATTNGEN_CACHE_DIR", str(path))
    return path


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    with caplog.at_level(logging.WARNING, logger="attngen"):
        yield lambda: [record.getMessage() for record in caplog.records if record.name.startswith("attngen")]


def test_key_is_a_hash_of_names_and_values() -> None:
    assert len(KEY) == 64
    assert cache.key({"target": "avx2", "ir": "softmax"}) == KEY
    assert cache.key({"ir": "avx2", "target": "softmax"}) != KEY
    assert cache.key({"ir": "softmax", "target": "avx2", "more": ""}) != KEY
    assert cache.key({"ir": "ä\ud800"}) != cache.key({"ir": "a"})


def test_an_entry_is_built_once_and_found_again(root: Path) -> None:
    assert cache.lookup(KEY) is None
    builder = Builder()
    entry = build(builder)
    assert entry.directory == root / "kernels" / KEY
    assert entry.path("kernel.so").read_bytes() == CODE
    assert entry.size == len(CODE) + 6
    assert build(builder) == entry == cache.lookup(KEY)
    assert builder.calls == 1
    assert leftovers(root) == []


def test_the_manifest_says_what_made_the_entry() -> None:
    manifest = json.loads((build().directory / "manifest.json").read_text())
    assert manifest["format"] == 1
    assert manifest["key"] == KEY
    assert manifest["made"] == MADE
    assert manifest["date"].endswith("+00:00")
    files = {file["name"]: file for file in manifest["files"]}
    assert files.keys() == {"kernel.so", "kernel.cpp"}
    assert files["kernel.so"]["size"] == len(CODE)
    assert files["kernel.so"]["sha256"] == hashlib.sha256(CODE).hexdigest()
    found = cache.lookup(KEY)
    assert found is not None
    assert found.made == MADE


@pytest.mark.parametrize("error", [BuildError("no"), ValueError("no"), KeyboardInterrupt()])
def test_a_failed_build_leaves_nothing(root: Path, error: BaseException) -> None:
    def builder(directory: Path) -> None:
        (directory / "half").write_text("x")
        raise error

    with pytest.raises(type(error)):
        cache.build_once(KEY, builder, MADE)
    assert cache.lookup(KEY) is None
    assert leftovers(root) == []
    assert list((root / "kernels").iterdir()) == []
    assert build().size > 0


def test_a_missing_file_of_the_builder_is_not_a_vanished_cache(root: Path) -> None:
    def builder(directory: Path) -> None:
        (directory / "nowhere" / "x").read_bytes()

    with pytest.raises(BuildError, match="nowhere"):
        cache.build_once(KEY, builder, MADE)


def damage_truncate(path: Path) -> None:
    os.truncate(path / "kernel.so", len(CODE) // 2)


def damage_flip(path: Path) -> None:
    code = bytearray(CODE)
    code[500] ^= 4
    (path / "kernel.so").write_bytes(code)


def damage_empty(path: Path) -> None:
    (path / "kernel.so").write_bytes(b"")


def damage_missing_file(path: Path) -> None:
    (path / "kernel.so").unlink()


def damage_missing_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def damage_truncated_manifest(path: Path) -> None:
    os.truncate(path / "manifest.json", 50)


def damage_binary_manifest(path: Path) -> None:
    (path / "manifest.json").write_bytes(b"\xff\x00[[[")


def damage_list_manifest(path: Path) -> None:
    (path / "manifest.json").write_text("[]")


def damage_link(path: Path) -> None:
    (path / "kernel.so").rename(path.parent.parent / "elsewhere")
    (path / "kernel.so").symlink_to(path.parent.parent / "elsewhere")


def damage_writable_file(path: Path) -> None:
    (path / "kernel.so").chmod(0o666)


def damage_writable_directory(path: Path) -> None:
    path.chmod(0o777)


def damage_pipe(path: Path) -> None:
    (path / "kernel.so").unlink()
    os.mkfifo(path / "kernel.so", 0o600)


def damage_not_a_directory(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("a file")


DAMAGES = [value for name, value in list(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__.removeprefix("damage_"))
def test_a_damaged_entry_is_rebuilt_never_loaded(
    damage: Callable[[Path], None], root: Path, warnings: Callable[[], list[str]]
) -> None:
    entry = build()
    damage(entry.directory)
    assert cache.lookup(KEY) is None
    assert any(KEY in text and "rebuilt" in text for text in warnings())
    assert cache.verify()[0].problem
    builder = Builder()
    assert build(builder).path("kernel.so").read_bytes() == CODE
    assert builder.calls == 1
    assert cache.verify()[0].problem is None
    assert cache.lookup(KEY) is not None
    assert leftovers(root) == []


def test_a_truncated_file_is_told_from_a_changed_one(warnings: Callable[[], list[str]]) -> None:
    path = build().directory
    damage_truncate(path)
    cache.lookup(KEY)
    damage_flip(path)
    cache.lookup(KEY)
    truncated, flipped = warnings()
    assert f"kernel.so has {len(CODE) // 2} bytes, {len(CODE)} were written" in truncated
    assert "kernel.so does not match its sha256" in flipped


def test_every_flipped_bit_of_the_manifest_is_seen() -> None:
    path = build().directory / "manifest.json"
    text = path.read_bytes()
    for bit in range(0, len(text) * 8, 7):
        changed = bytearray(text)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(cache_entry.Damaged):
            cache_entry.read(path.parent, KEY, check_files=False)


def test_an_entry_under_another_key_is_not_loaded(root: Path) -> None:
    other = cache.key({"ir": "other"})
    shutil.copytree(build().directory, root / "kernels" / other)
    assert cache.lookup(other) is None


OUTSIDE = {"name": "../x", "size": 0, "sha256": hashlib.sha256(b"").hexdigest()}


@pytest.mark.parametrize("change", [{"format": 2}, {"files": [OUTSIDE]}])
def test_a_manifest_of_another_format_or_with_paths_outside_is_damage(change: dict[str, object]) -> None:
    path = build().directory / "manifest.json"
    (path.parents[1] / "x").touch(mode=0o600)
    body = json.loads(path.read_text()) | change
    del body["digest"]
    body["digest"] = hashlib.sha256(cache_entry.canonical(body)).hexdigest()
    path.write_text(json.dumps(body))
    assert cache.lookup(KEY) is None


def test_times_do_not_matter() -> None:
    entry = build()
    for path in entry.directory.iterdir():
        os.utime(path, (0, 0))
    assert cache.lookup(KEY) == entry


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
def test_entries_are_safe_under_every_umask(umask: int, root: Path) -> None:
    before = os.umask(umask)
    try:
        entry = build()
    finally:
        os.umask(before)
    assert cache.lookup(KEY) == entry
    for path in (root, root / "kernels", entry.directory, *entry.directory.iterdir()):
        assert not path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH), path


@pytest.mark.parametrize("bad", ["", "abc", "../../etc", "g" * 64, KEY.upper()])
def test_a_bad_key_is_refused(bad: str) -> None:
    with pytest.raises(CacheError, match="64 hexadecimal digits"):
        cache.lookup(bad)
