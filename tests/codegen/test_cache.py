"""The store on one process: content, damage, and directories that cannot or must not be used."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import attngen.errors
from attngen.codegen import cache, cache_entry, cache_place
from attngen.errors import BuildError, CacheError, UnsupportedError

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


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "store"
    monkeypatch.setenv("ATTNGEN_CACHE_DIR", str(path))
    return path


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    with caplog.at_level(logging.WARNING, logger="attngen"):
        yield lambda: [record.getMessage() for record in caplog.records if record.name.startswith("attngen")]


def build(builder: Builder | None = None, key: str = KEY) -> cache.Entry:
    return cache.build_once(key, builder or Builder(), MADE)


def leftovers(root: Path) -> list[Path]:
    return list((root / "tmp").iterdir())


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
    for bit in range(0, len(text) * 8, 3):
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


# Directories that cannot be written to


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


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT])
def test_an_unusable_directory_falls_back_with_one_warning(
    number: int, root: Path, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    kept = build(key=cache.key({"ir": "built before"}))
    forbid_writing(root, monkeypatch, number)
    builder = Builder()
    entry = build(builder)
    assert not entry.directory.is_relative_to(root)
    assert entry.path("kernel.so").read_bytes() == CODE
    assert build(builder) == entry == cache.lookup(KEY)
    assert builder.calls == 1
    build(key=cache.key({"ir": "another"}))
    (text,) = warnings()
    assert str(root) in text
    assert os.strerror(number) in text
    assert "ATTNGEN_CACHE_DIR" in text
    assert cache.lookup(kept.key) == kept, "what the directory holds is still read"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_write_permission(root: Path, warnings: Callable[[], list[str]]) -> None:
    kept = build(key=cache.key({"ir": "built before"}))
    parts = (root / "kernels", root / "tmp", root / "locks", root)
    for part in parts:
        part.chmod(0o500)
    try:
        assert not build().directory.is_relative_to(root)
        assert cache.lookup(kept.key) == kept
        assert str(root) in warnings()[0]
    finally:
        for part in reversed(parts):
            part.chmod(0o700)


def test_the_disk_fills_up_while_the_builder_writes(root: Path, warnings: Callable[[], list[str]]) -> None:
    directories = []

    def builder(directory: Path) -> None:
        directories.append(directory)
        Builder()(directory)
        if directory.is_relative_to(root):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    entry = cache.build_once(KEY, builder, MADE)
    assert len(directories) == 2
    assert not entry.directory.is_relative_to(root)
    assert list((root / "kernels").iterdir()) == leftovers(root) == []
    assert len(warnings()) == 1


def test_the_disk_fills_up_while_the_manifest_is_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_text

    def full(self: Path, text: str, *args: object) -> int:
        if self.name == "manifest.json" and self.is_relative_to(root):
            write(self, text[:20])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, text)

    monkeypatch.setattr(Path, "write_text", full)
    assert not build().directory.is_relative_to(root)
    assert list((root / "kernels").iterdir()) == leftovers(root) == []


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)


def test_no_space_anywhere_is_one_clear_error(root: Path, tmp_path: Path) -> None:
    """A real limit on the size of files: the private directory does not help either."""
    answer = python(
        "import resource, sys\n"
        "from attngen.codegen import cache\n"
        "from attngen.errors import CacheError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: cache.build_once('0' * 64, lambda d: (d / 'kernel.so').write_bytes(bytes(10000)), {})\n"
        "except CacheError as error: print(error)\n",
        TMPDIR=str(tmp_path),
    )
    assert answer.stdout.count("File too large") == 2, answer
    assert str(root) in answer.stdout
    assert "Set ATTNGEN_CACHE_DIR to a directory of your own" in answer.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["store"], "the private directory is removed at the end"
    assert list((root / "kernels").iterdir()) == leftovers(root) == []


def test_a_file_system_that_is_really_full(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir(mode=0o700)
    code = (
        "from attngen.codegen import cache\n"
        "entry = cache.build_once('0' * 64, lambda d: (d / 'k').write_bytes(bytes(200000)), {})\n"
        "print(entry.directory, cache.lookup('0' * 64) == entry, len(cache.list_entries()), cache.total_size())\n"
    )
    script = f'mount -t tmpfs -o size=64k,mode=700 none "{mount}" || exit 77; exec "{sys.executable}" -c "$CODE"'
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare command")
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "ATTNGEN_CACHE_DIR": str(mount), "CODE": code}
    answer = subprocess.run(["unshare", "-m", "sh", "-c", script], env=env, capture_output=True, text=True)
    if answer.returncode in (1, 77) and "Traceback" not in answer.stderr:
        pytest.skip("no permission to mount a small file system")
    directory, found, entries, size = answer.stdout.split()
    assert not Path(directory).is_relative_to(mount)
    assert (found, entries, size) == ("True", "0", "0")
    assert answer.stderr.count("No space left on device") == 1


def test_the_private_directory_ends_with_the_process_that_made_it(root: Path, tmp_path: Path) -> None:
    root.write_text("a file is in the way")
    answer = python(
        "import os\n"
        "from attngen.codegen import cache\n"
        "build = lambda: cache.build_once('0' * 64, lambda d: (d / 'k').write_bytes(b'x'), {})\n"
        "entry = build()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    assert cache.lookup('0' * 64) is None and build().directory != entry.directory\n"
        "    raise SystemExit\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "assert build() == entry and entry.path('k').is_file()\n",
        TMPDIR=str(tmp_path),
    )
    assert answer.returncode == 0, answer.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


# Directories that others could have written to


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `path` belong to another user: really when root, else by taking another identity."""
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        other = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: other)


def test_another_users_directory_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    build(Builder(b"evil"))
    give_away(root, monkeypatch)
    assert cache.lookup(KEY) is None
    (finding,) = cache.verify()
    assert "another user" in (finding.problem or "")
    # Under a taken identity the private directory would look foreign as well.
    if os.geteuid() == 0:
        assert build().path("kernel.so").read_bytes() == CODE
        assert str(root) in warnings()[0]
        assert "belongs to another user (uid 12345)" in warnings()[0]
    with pytest.raises(CacheError, match="not cleared: it belongs to another user"):
        cache.clear()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777, 0o702])
@pytest.mark.parametrize("part", [".", "kernels"])
def test_a_directory_that_others_may_write_to_is_refused(
    mode: int, part: str, root: Path, warnings: Callable[[], list[str]]
) -> None:
    build(Builder(b"evil"))
    (root / part).chmod(mode)
    assert cache.lookup(KEY) is None
    assert build().path("kernel.so").read_bytes() == CODE
    (text,) = warnings()
    assert str(root) in text
    assert "others may write to it" in text
    assert "chmod go-w" in text


def test_a_directory_that_others_may_replace_is_refused(
    tmp_path: Path, root: Path, warnings: Callable[[], list[str]]
) -> None:
    build(Builder(b"evil"))
    tmp_path.chmod(0o1777)
    assert cache.lookup(KEY) is not None, "a sticky directory such as /tmp is fine"
    tmp_path.chmod(0o777)
    assert cache.lookup(KEY) is None
    assert build().path("kernel.so").read_bytes() == CODE
    assert "world-writable" in warnings()[0]
    tmp_path.chmod(0o700)


def test_a_link_is_followed_before_the_directory_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    (tmp_path / "link").symlink_to(root)
    monkeypatch.setenv("ATTNGEN_CACHE_DIR", str(tmp_path / "link"))
    assert build().directory == root / "kernels" / KEY
    root.chmod(0o777)
    assert cache.lookup(KEY) is None


# Where the cache is


def test_the_default_with_and_without_platformdirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATTNGEN_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform == "linux":
        assert cache.directory() == tmp_path / "xdg" / "attngen"
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert cache.directory() == tmp_path / "xdg" / "attngen"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.directory() == tmp_path / ".cache" / "attngen"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.directory() == tmp_path / ".cache" / "attngen"
    assert build().directory == tmp_path / ".cache" / "attngen" / "kernels" / KEY


def test_without_a_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    monkeypatch.delenv("ATTNGEN_CACHE_DIR")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cache_place, "default_directory", lambda: Path("~/.cache/attngen"))
    assert cache.lookup(KEY) is None
    assert build().path("kernel.so").read_bytes() == CODE
    assert "the home directory is unknown" in warnings()[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", ["", "kernels", "tmp", "locks"])
def test_a_file_in_the_way_of_the_directory(part: str, root: Path, warnings: Callable[[], list[str]]) -> None:
    path = root / part if part else root
    path.parent.mkdir(exist_ok=True, mode=0o700)
    path.write_text("mine")
    assert build().path("kernel.so").read_bytes() == CODE
    assert cache.lookup(KEY) is not None
    assert "File exists" in warnings()[0]
    assert path.read_text() == "mine"


def test_the_directory_cannot_even_exist(monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]) -> None:
    monkeypatch.setenv("ATTNGEN_CACHE_DIR", "/proc/nowhere/at/all")
    assert build().path("kernel.so").read_bytes() == CODE
    assert "/proc/nowhere/at/all" in warnings()[0]


def test_no_private_directory_either(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.write_text("a file is in the way")

    def refuse(**_: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(CacheError, match=r"no directory to build kernels in.*File exists.*Permission denied"):
        build()


# Looking after it


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
    damage_missing_manifest(build().directory)
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
