"""Directories that cannot, or must not, hold the store; and where it is by default."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attngen.codegen import cache, cache_place
from attngen.errors import CacheError
from tests.codegen.store import CODE, KEY, MADE, REPOSITORY, Builder, build, forbid_writing, leftovers, python


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "store"
    monkeypatch.setenv("ATTNGEN_CACHE_DIR", str(path))
    return path


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    with caplog.at_level(logging.WARNING, logger="attngen"):
        yield lambda: [record.getMessage() for record in caplog.records if record.name.startswith("attngen")]


# Directories that cannot be written to


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
