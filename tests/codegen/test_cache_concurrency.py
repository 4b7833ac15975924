"""The store shared by processes that build, load and clear it at the same time."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import pytest

import attngen.errors
from attngen.codegen import cache

REPOSITORY = Path(attngen.errors.__file__).parents[1]
KEY = "0" * 64
COMMON = """
import os, pathlib, shutil, signal, sys, time
from attngen.codegen import cache
ROOT = pathlib.Path(os.environ["ATTNGEN_CACHE_DIR"])
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "store"
    monkeypatch.setenv("ATTNGEN_CACHE_DIR", str(path))
    return path


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", COMMON + code, *arguments]
    return subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(*processes: subprocess.Popen[str]) -> list[str]:
    outputs = []
    for process in processes:
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        outputs.append(output)
    return outputs


def test_processes_that_want_the_same_kernel_build_it_once(tmp_path: Path) -> None:
    code = """
def build(directory):
    with open(sys.argv[1], "a") as stream: stream.write("built\\n")
    time.sleep(0.3)
    (directory / "k").write_text("code")
print("ready", flush=True); sys.stdin.readline()
entry = cache.build_once("0" * 64, build, {})
print(entry.path("k").read_text())
"""
    log = tmp_path / "log"
    processes = [start(code, str(log)) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert finish(*processes) == ["code\n"] * 3
    assert log.read_text() == "built\n"


def test_threads_that_want_the_same_kernel_build_it_once() -> None:
    calls = []

    def build(directory: Path) -> None:
        calls.append(directory)
        (directory / "k").write_text("code")

    with ThreadPoolExecutor(8) as pool:
        entries = list(pool.map(lambda _: cache.build_once(KEY, build, {}), range(16)))
    assert len(calls) == 1
    assert set(entries) == {cache.lookup(KEY)}


def test_clear_does_not_disturb_a_build_under_way(root: Path) -> None:
    calls = []

    def build(directory: Path) -> None:
        calls.append(directory)
        (directory / "k").write_text("code")
        assert cache.clear() == 1

    cache.build_once("1" * 64, lambda directory: (directory / "k").write_text("old"), {})
    entry = cache.build_once(KEY, build, {})
    assert entry == cache.lookup(KEY)
    assert len(calls) == 1
    assert cache.lookup("1" * 64) is None


def test_the_whole_directory_is_removed_while_we_build(root: Path) -> None:
    calls = []

    def build(directory: Path) -> None:
        calls.append(directory)
        if len(calls) <= 3:
            shutil.rmtree(root)
        (directory / "k").write_text("code")

    entry = cache.build_once(KEY, build, {})
    assert len(calls) == 4
    assert entry == cache.lookup(KEY)
    assert entry.directory.is_relative_to(root)


def test_a_directory_that_is_always_removed_is_given_up(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    def build(directory: Path) -> None:
        shutil.rmtree(root, ignore_errors=True)
        (directory / "k").write_text("code")

    entry = cache.build_once(KEY, build, {})
    assert not entry.directory.is_relative_to(root)
    assert "another process keeps removing it" in caplog.text


def test_an_entry_is_removed_between_look_up_and_load(root: Path) -> None:
    entry = cache.build_once(KEY, lambda directory: (directory / "k").write_text("code"), {})
    shutil.rmtree(root)
    assert cache.lookup(KEY) is None
    assert cache.build_once(KEY, lambda directory: (directory / "k").write_text("code"), {}) == entry


def test_building_loading_and_clearing_at_the_same_time(root: Path) -> None:
    worker = """
turn = 0
while not (ROOT.parent / "done").exists():
    turn += 1
    name = f"{turn % 3}" * 64
    entry = cache.build_once(name, lambda d: (d / "k").write_text(name * 50), {"turn": turn})
    assert entry.key == name
    found = cache.lookup(name)
    assert found is None or found.files == entry.files
    try: text = entry.path("k").read_text()
    except FileNotFoundError: continue
    assert text == name * 50
"""
    clearer = """
for turn in range(60):
    if turn % 4: cache.clear()
    else: shutil.rmtree(ROOT, ignore_errors=True)
    for entry in cache.list_entries(): assert entry.files
    cache.verify(); cache.total_size()
    time.sleep(0.005)
(ROOT.parent / "done").touch()
"""
    finish(*(start(code) for code in (worker, worker, clearer)))
    assert all(finding.problem is None for finding in cache.verify())
    cache.clear()
    assert [*root.glob("tmp/*"), *root.glob("locks/*"), *root.glob("kernels/*")] == []


def test_a_killed_build_leaves_no_entry_and_is_swept(root: Path) -> None:
    killed = start("""
def build(directory):
    (directory / "k").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
cache.build_once("0" * 64, build, {})
""")
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert cache.lookup(KEY) is None
    assert len(list((root / "tmp").iterdir())) == 1
    entry = cache.build_once(KEY, lambda directory: (directory / "k").write_text("whole"), {})
    assert entry.path("k").read_text() == "whole"
    assert list((root / "tmp").iterdir()) == []


def test_a_killed_build_is_removed_by_clear(root: Path) -> None:
    (root / "tmp" / f"{KEY}.abc").mkdir(parents=True, mode=0o700)
    root.chmod(0o700)
    assert cache.clear() == 0
    assert list((root / "tmp").iterdir()) == list((root / "locks").iterdir()) == []


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError()])
def test_without_locks_the_first_entry_wins_and_stays_whole(
    error: Exception, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)

    def late(directory: Path) -> None:
        (directory / "k").write_text("late")
        cache.build_once(KEY, lambda inner: (inner / "k").write_text("early"), {})

    entry = cache.build_once(KEY, late, {})
    assert entry.path("k").read_text() == "early"
    assert entry == cache.lookup(KEY)
    assert list((root / "tmp").iterdir()) == []


def test_waiting_for_a_lock_can_be_interrupted(root: Path) -> None:
    cache.build_once("1" * 64, lambda directory: (directory / "k").write_text("x"), {})
    with filelock.FileLock(root / "locks" / f"{KEY}.lock"):
        waiting = start("""
signal.signal(signal.SIGINT, signal.default_int_handler)
print("waiting", flush=True)
try: cache.build_once("0" * 64, lambda directory: None, {})
except KeyboardInterrupt: print("stopped")
""")
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "waiting\n"
        # The signal may come before the wait begins; then it is the wait that the except clause misses.
        waiting.send_signal(signal.SIGINT)
        output, _ = waiting.communicate()
    assert "stopped" in output or waiting.returncode != 0
    assert cache.lookup(KEY) is None
