"""Finding and running the C++ compiler, real ones and scripts that behave as bad ones do."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import attngen.errors
from attngen.codegen import cache
from attngen.codegen.backends.cpu import compiler, isa
from attngen.codegen.backends.cpu.diagnostics import explain
from attngen.errors import BuildError, UnsupportedError

REPOSITORY = Path(attngen.errors.__file__).parents[1]
COMPILERS = [name for name in ("g++", "clang++") if shutil.which(name)]
needs_compiler = pytest.mark.skipif(not COMPILERS, reason="no C++ compiler")
EXPORT = 'extern "C" __attribute__((visibility("default"))) '
SOURCE = EXPORT + "int answer() { return 42; }\n"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("ATTNGEN_CXX", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    compiler._find.cache_clear()
    yield
    compiler._find.cache_clear()


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    with caplog.at_level(logging.WARNING, logger="attngen"):
        yield lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


def script(path: Path, text: str) -> Path:
    """A program that stands in for a compiler; it answers --version like one."""
    path.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && {{ echo "fake 1.0"; echo x >> {path}.log; exit 0; }}\n{text}\n'
    )
    path.chmod(0o755)
    return path


# Finding one


@needs_compiler
def test_a_compiler_is_found_and_tells_its_version() -> None:
    found = compiler.find()
    assert isinstance(found, compiler.Compiler)
    assert Path(found.command[0]).is_absolute()
    assert any(digit in compiler.version() for digit in "0123456789")
    assert "\n" not in compiler.version()


def test_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = {name: script(tmp_path / name, "") for name in ("clang++", "g++", "mine", "ours")}
    monkeypatch.setenv("PATH", str(tmp_path))

    def found() -> str:
        compiler._find.cache_clear()
        result = compiler.find()
        assert isinstance(result, compiler.Compiler)
        return Path(result.command[0]).name

    monkeypatch.setenv("CXX", "mine")
    monkeypatch.setenv("ATTNGEN_CXX", str(programs["ours"]))
    assert found() == "ours"
    monkeypatch.delenv("ATTNGEN_CXX")
    assert found() == "mine"
    monkeypatch.delenv("CXX")
    assert found() == "g++"
    programs["g++"].unlink()
    assert found() == "clang++"


def test_it_is_looked_for_once_per_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = script(tmp_path / "mine", "")
    monkeypatch.setenv("ATTNGEN_CXX", str(program))
    assert {compiler.version() for _ in range(3)} == {"fake 1.0"}
    assert Path(f"{program}.log").read_text() == "x\n"


@needs_compiler
def test_a_command_of_several_words(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNGEN_CXX", f"{COMPILERS[0]} -DANSWER=42")
    source = EXPORT + "int answer() { static_assert(ANSWER == 42); return ANSWER; }\n"
    assert compiler.compile_shared(source, "portable", out).is_file()


@needs_compiler
def test_options_of_the_user_come_last(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNGEN_CXXFLAGS", "-O0 '-DTEXT=\"a b\"'")
    assert compiler.flags("portable")[-2:] == ("-O0", '-DTEXT="a b"')
    source = "#ifdef __OPTIMIZE__\n#error\n#endif\n" + EXPORT + "int answer() { return sizeof(TEXT); }\n"
    library = ctypes.CDLL(str(compiler.compile_shared(source, "portable", out)))
    assert library.answer() == 4


@needs_compiler
@pytest.mark.parametrize("bad", ["no-such-compiler", "/bin/false", "/"])
def test_a_chosen_compiler_that_does_not_run_is_named(
    bad: str, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    monkeypatch.setenv("ATTNGEN_CXX", bad)
    assert isinstance(compiler.find(), compiler.Compiler)
    compiler.find()
    (text,) = warnings()
    assert repr(bad) in text
    assert "ATTNGEN_CXX" in text


def test_no_compiler_is_one_warning_and_a_typed_result(
    out: Path, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    monkeypatch.setenv("PATH", str(out))
    found = [compiler.find() for _ in range(3)][-1]
    assert isinstance(found, compiler.NoCompiler)
    assert "tried g++, clang++" in found.reason
    assert "Install g++ or clang++, or set ATTNGEN_CXX" in found.reason
    (text,) = warnings()
    assert found.reason in text
    assert "reference" in text
    with pytest.raises(UnsupportedError, match="cannot build kernels: no C\\+\\+ compiler runs here"):
        compiler.compile_shared(SOURCE, "portable", out)
    with pytest.raises(UnsupportedError):
        compiler.version()
    assert len(warnings()) == 1


# Running it


@pytest.mark.parametrize("name", COMPILERS)
@pytest.mark.parametrize("target", list(isa.REQUIRED))
def test_every_instruction_set_compiles(name: str, target: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    macros = {
        "avx512_bf16": "__AVX512BF16__ __AVX512F__ __AVX512BW__ __AVX512VL__ __AVX512DQ__ __FMA__ __F16C__",
        "avx512": "__AVX512F__ __AVX512BW__ __AVX512VL__ __AVX512DQ__ __FMA__ __F16C__",
        "avx2": "__AVX2__ __FMA__ __F16C__",
        "portable": "",
    }
    if target != "portable" and not Path("/proc/cpuinfo").read_text().count("sse2"):
        pytest.skip("not an x86 machine")
    monkeypatch.setenv("ATTNGEN_CXX", name)
    checks = "".join(f"#ifndef {macro}\n#error no {macro}\n#endif\n" for macro in macros[target].split())
    include = "#include <immintrin.h>\n" if macros[target] else ""
    path = compiler.compile_shared(checks + include + SOURCE, target, out)
    assert path == out / "kernel.so"
    assert (out / "kernel.cpp").read_text() == checks + include + SOURCE
    assert {entry.name for entry in out.iterdir()} == {"kernel.so", "kernel.cpp"}


@pytest.mark.parametrize("name", COMPILERS)
def test_no_openmp_runtime_is_linked(name: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNGEN_CXX", name)
    source = (
        'extern "C" void GOMP_parallel(void (*)(void*), void*, unsigned, unsigned) __attribute__((weak));\n'
        + EXPORT
        + "int has() { return GOMP_parallel != nullptr; }\n"
    )
    library = compiler.compile_shared(source, "portable", out).read_bytes()
    assert b"GOMP_parallel" in library
    for runtime in (b"libgomp", b"libomp", b"libiomp"):
        assert runtime not in library
    assert "-fopenmp" not in compiler.flags("portable")


@pytest.mark.parametrize("name", COMPILERS)
def test_only_exported_functions_are_visible(name: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNGEN_CXX", name)
    library = compiler.compile_shared(SOURCE + 'extern "C" int hidden_one() { return 1; }\n', "portable", out)
    loaded = ctypes.CDLL(str(library))
    assert loaded.answer() == 42
    assert not hasattr(loaded, "hidden_one")


def failure(source: str, out: Path, target: str = "portable") -> str:
    with pytest.raises(BuildError) as caught:
        compiler.compile_shared(source, target, out)
    assert not (out / "kernel.so").exists()
    assert {entry.name for entry in out.iterdir()} <= {"kernel.cpp"}
    return str(caught.value)


@pytest.mark.parametrize("name", COMPILERS)
def test_a_refused_source_shows_line_caret_command_and_copy(
    name: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNGEN_CXX", name)
    lines = [f"int before_{number};" for number in range(1, 12)] + ["int bad = missing_name;", "int after;"]
    message = failure("\n".join(lines) + "\nint worse = other_name;\n", out)
    first, *shown = message.splitlines()
    assert first.startswith("the C++ compiler refused the generated source: ")
    assert "missing_name" in first
    assert shown[0] == "  kernel.cpp, line 12:"
    at = shown.index("  > 12 | int bad = missing_name;")
    assert shown[at - 1] == "    11 | int before_11;"
    assert shown[at + 1] == "       |           ^"
    assert shown[at + 2] == "    13 | int after;"
    command = shlex.split(next(line for line in shown if line.startswith("  command: ")).partition(": ")[2])
    assert Path(command[0]).name == name
    assert set(compiler.flags("portable")) <= set(command)
    kept = Path(shown[-1].rpartition(" ")[2])
    assert kept.read_text() == "\n".join(lines) + "\nint worse = other_name;\n"
    assert str(kept) in command
    assert subprocess.run(command, capture_output=True).returncode != 0, "the command can be pasted"


@pytest.mark.parametrize("name", COMPILERS)
def test_an_error_inside_a_header_shows_the_line_that_led_there(
    name: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/cpuinfo").read_text().count("sse2"):
        pytest.skip("not an x86 machine")
    monkeypatch.setenv("ATTNGEN_CXX", name)
    source = (
        "#include <immintrin.h>\n#include <vector>\n"
        f"{EXPORT}void run(float *p) {{\n"
        "  _mm512_storeu_ps(p, _mm512_set1_ps(1.0f));\n"
        "}\n"
    )
    assert "> 4 |   _mm512_storeu_ps(p" in failure(source, out)
    source = (
        "#include <vector>\nstruct A { A(const A&) = delete; };\n"
        "void f(std::vector<A>& v, A& a) {\n  v.push_back(a);\n}\n"
    )
    assert "> 4 |   v.push_back(a);" in failure(source, out)


@needs_compiler
def test_a_missing_header(out: Path) -> None:
    message = failure("int x;\n#include <no_such_header.h>\n", out)
    assert "no_such_header.h" in message.splitlines()[0]
    assert "> 2 | #include <no_such_header.h>" in message


def test_a_compiler_that_dies(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNGEN_CXX", str(script(tmp_path / "dies", "echo working; kill -9 $$")))
    message = failure(SOURCE, out)
    assert "killed by SIGKILL (out of memory?)" in message
    assert "    working" in message


def test_a_compiler_that_fails_without_a_word(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNGEN_CXX", str(script(tmp_path / "fails", "exit 3")))
    message = failure(SOURCE, out)
    assert "failed with exit status 3" in message
    assert "(it said nothing)" in message


def test_a_compiler_that_lies(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNGEN_CXX", str(script(tmp_path / "lies", "exit 0")))
    assert "exit status 0" in failure(SOURCE, out)


def test_an_internal_error_is_shown() -> None:
    output = "during RTL pass: expand\nkernel.cpp:1:5: internal compiler error: in expand_expr, at expr.cc:1\n"
    message = explain(1, output, "int x;\n", "kernel.cpp")
    assert message.splitlines()[0].endswith(": in expand_expr, at expr.cc:1")
    assert "> 1 | int x;\n      |     ^" in message


def test_a_linker_error_has_no_line() -> None:
    output = "/usr/bin/ld: a.o: relocation error\ncollect2: error: ld returned 1 exit status\n"
    message = explain(1, output, "int x;\n", "kernel.cpp")
    assert "ld returned 1 exit status" in message
    assert "relocation error" in message


def test_a_line_beyond_the_source_does_not_break_the_message() -> None:
    message = explain(1, "kernel.cpp:99:1: error: expected '}'\n", "int x;\n", "kernel.cpp")
    assert "expected '}'" in message


# A full disk, and Ctrl-C


def test_a_full_disk_is_no_build_error(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'echo "ld: final link failed: No space left on device"; exit 1'
    monkeypatch.setenv("ATTNGEN_CXX", str(script(tmp_path / "full", text)))
    with pytest.raises(OSError, match="No space left") as caught:
        compiler.compile_shared(SOURCE, "portable", out)
    assert caught.value.errno == errno.ENOSPC


def test_a_full_disk_falls_back_to_the_private_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "store"
    monkeypatch.setenv("ATTNGEN_CACHE_DIR", str(root))
    text = f"""
while [ "$1" != -o ]; do shift; done
case "$2" in {root}/*) echo "fatal error: error writing to kernel.s: No space left on device"; exit 1;; esac
echo code > "$2"
"""
    monkeypatch.setenv("ATTNGEN_CXX", str(script(tmp_path / "full", text)))

    def build(directory: Path) -> None:
        compiler.compile_shared(SOURCE, "portable", directory)

    entry = cache.build_once("0" * 64, build, {})
    assert not entry.directory.is_relative_to(root)
    assert {file.name for file in entry.files} == {"kernel.cpp", "kernel.so"}
    assert list((root / "kernels").iterdir()) == list((root / "tmp").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_ctrl_c_kills_the_compiler_and_leaves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "store"
    pids = tmp_path / "pids"
    pids.touch()
    program = script(tmp_path / "slow", f'touch "$TMPDIR/half.s"\nsleep 1000 &\necho $$ $! > {pids}\nwait')
    code = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from attngen.codegen import cache\n"
        "from attngen.codegen.backends.cpu import compiler\n"
        "cache.build_once('0' * 64, lambda d: compiler.compile_shared('', 'portable', d), {})\n"
    )
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "ATTNGEN_CXX": str(program), "ATTNGEN_CACHE_DIR": str(root)}
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE, text=True)
    while not pids.read_text().endswith("\n"):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert "KeyboardInterrupt" in errors
    for pid in pids.read_text().split():
        while alive(pid):
            time.sleep(0.01)
    assert list((root / "kernels").iterdir()) == list((root / "tmp").iterdir()) == []


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
