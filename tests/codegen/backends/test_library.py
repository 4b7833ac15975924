"""Loading built libraries, and sharing torch's OpenMP runtime with them."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import attngen.errors
from attngen.codegen import cache
from attngen.codegen.backends.cpu import compiler, library, openmp
from attngen.errors import BuildError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="no C++ compiler")

REPOSITORY = Path(attngen.errors.__file__).parents[1]
KEY = "0" * 64
EXPORT = 'extern "C" __attribute__((visibility("default"))) '
ANSWER = EXPORT + "int answer(int a, float b) { return a + (int)b; }\n"
THREADS = """
extern "C" void GOMP_parallel(void (*)(void*), void*, unsigned, unsigned) __attribute__((weak));
extern "C" int omp_get_thread_num() __attribute__((weak));
extern "C" int omp_get_num_threads() __attribute__((weak));
struct Team { int size; int seen[64]; };
static void body(void* p) {
  Team* team = (Team*)p;
  team->seen[omp_get_thread_num()] = 1;
  if (omp_get_thread_num() == 0) team->size = omp_get_num_threads();
}
extern "C" __attribute__((visibility("default"))) int threads(int wanted) {
  if (!GOMP_parallel) return -1;
  Team team{};
  GOMP_parallel(body, &team, wanted, 0);
  int ran = 0;
  for (int t = 0; t < 64; ++t) ran += team.seen[t];
  return ran == team.size ? ran : -2;
}
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATTNGEN_CACHE_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


def fetch(source: str = ANSWER, key: str = KEY) -> Callable[[], cache.Entry]:
    return lambda: cache.build_once(key, lambda d: compiler.compile_shared(source, "portable", d), {})


def load(fetch: Callable[[], cache.Entry], symbol: str = "answer") -> tuple[cache.Entry, library.Function]:
    return library.load_entry(fetch, "kernel.so", symbol, (ctypes.c_int, ctypes.c_float), ctypes.c_int)


def test_the_entry_function_has_its_types() -> None:
    _, answer = load(fetch())
    assert answer(40, 2.5) == 42
    with pytest.raises(ctypes.ArgumentError):
        answer("40", 2.5)
    with pytest.raises(TypeError):
        answer(40)


def test_a_function_without_a_result(tmp_path: Path) -> None:
    path = compiler.compile_shared(EXPORT + "void fill(int* p) { *p = 7; }\n", "portable", tmp_path)
    cell = ctypes.c_int(0)
    assert library.load(path, "fill", (ctypes.POINTER(ctypes.c_int),))(cell) is None
    assert cell.value == 7


def test_a_loaded_library_outlives_its_file(root: Path) -> None:
    _, answer = load(fetch())
    cache.clear()
    shutil.rmtree(root)
    assert answer(1, 2.0) == 3
    assert load(fetch())[1](1, 2.0) == 3


def broken(times: int, calls: list[Path], text: bytes | None = None) -> Callable[[], cache.Entry]:
    """A builder whose first `times` results cannot be used, though their hashes are right."""

    def build(directory: Path) -> None:
        calls.append(directory)
        if len(calls) > times:
            compiler.compile_shared(ANSWER, "portable", directory)
        elif text is not None:
            (directory / "kernel.so").write_bytes(text)
        else:
            compiler.compile_shared(EXPORT + "int something_else() { return 1; }\n", "portable", directory)

    return lambda: cache.build_once(KEY, build, {})


@pytest.mark.parametrize("text", [b"", b"not a library", b"\x7fELF\x02\x01\x01", None])
def test_an_entry_that_does_not_load_is_rebuilt_once(text: bytes | None) -> None:
    calls: list[Path] = []
    entry, answer = load(broken(1, calls, text))
    assert len(calls) == 2
    assert answer(1, 2.0) == 3
    assert cache.lookup(KEY) == entry


@pytest.mark.parametrize("text", [b"not a library", None])
def test_an_entry_that_never_loads_is_a_build_error(text: bytes | None) -> None:
    calls: list[Path] = []
    with pytest.raises(BuildError, match=r"just built cannot be loaded: .*kernel.so"):
        load(broken(9, calls, text))
    assert len(calls) == 2


def test_an_entry_removed_before_it_is_loaded_is_rebuilt(root: Path) -> None:
    calls = []

    def fetch_and_lose() -> cache.Entry:
        entry = fetch()()
        calls.append(entry)
        if len(calls) == 1:
            shutil.rmtree(root)
        return entry

    assert load(fetch_and_lose)[1](1, 2.0) == 3
    assert len(calls) == 2


def test_the_thread_count_is_honoured(tmp_path: Path) -> None:
    path = compiler.compile_shared(THREADS, "portable", tmp_path)
    threads = library.load(path, "threads", (ctypes.c_int,), ctypes.c_int)
    assert [threads(count) for count in (1, 2, 3, 5)] == [1, 2, 3, 5]
    before = torch.get_num_threads()
    assert threads(before + 1) == before + 1
    assert torch.get_num_threads() == before


def python(code: str, *arguments: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    answer = subprocess.run([sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_torchs_runtime_is_the_only_one_in_the_process(tmp_path: Path) -> None:
    """In a process that never imported torch itself: the loader does it first."""
    path = compiler.compile_shared(THREADS, "portable", tmp_path)
    code = """
import ctypes, sys
from attngen.codegen.backends.cpu import library, openmp
assert "torch" not in sys.modules
threads = library.load(sys.argv[1], "threads", (ctypes.c_int,), ctypes.c_int)
import torch
torch.ones(1000, 1000) @ torch.ones(1000, 1000)
assert threads(3) == 3
(runtime,) = openmp.mapped()
assert runtime == openmp.share_torch_runtime()
assert "torch" in str(runtime)
"""
    python(code, str(path))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_runtime_that_was_loaded_locally_is_made_visible(tmp_path: Path) -> None:
    """As with a torch whose libraries keep their symbols to themselves."""
    path = compiler.compile_shared(THREADS, "portable", tmp_path)
    runtime = openmp.share_torch_runtime()
    assert runtime is not None
    code = """
import ctypes, pathlib, sys
from attngen.codegen.backends.cpu import openmp
runtime = pathlib.Path(sys.argv[2])
ctypes.CDLL(str(runtime), mode=ctypes.RTLD_LOCAL)
assert not openmp.visible()
assert openmp.mapped() == (runtime,)
assert openmp.share(runtime.parent) == runtime
assert openmp.visible()
assert openmp.mapped() == (runtime,)
print(ctypes.CDLL(sys.argv[1]).threads(3))
"""
    assert python(code, str(path), str(runtime)) == "3\n"


def test_without_a_runtime_the_weak_symbol_is_null(tmp_path: Path) -> None:
    path = compiler.compile_shared(THREADS, "portable", tmp_path)
    code = """
import ctypes, pathlib, sys
from attngen.codegen.backends.cpu import openmp
assert openmp.share(pathlib.Path(sys.argv[2])) is None
print(ctypes.CDLL(sys.argv[1]).threads(3))
"""
    assert python(code, str(path), str(tmp_path)) == "-1\n"


def test_the_runtime_of_torch_is_preferred(tmp_path: Path) -> None:
    home = tmp_path / "torch"
    other, bundled, beside = (
        tmp_path / "sklearn" / "libgomp.so.1",
        home / "lib" / "libgomp.so.1",
        tmp_path / "torch.libs" / "libgomp-a34b.so",
    )
    assert openmp.choose((other, bundled), home) == bundled
    assert openmp.choose((other, beside), home) == beside
    assert openmp.choose((other,), home) == other
