"""Finds the C++ compiler and runs it on one generated file.

The generated code is compiled without -fopenmp: it resolves GOMP_parallel weakly from the OpenMP runtime that torch has
loaded, so that a process never holds two of them.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from attngen import settings
from attngen.codegen.backends.cpu.diagnostics import explain
from attngen.errors import BuildError, UnsupportedError

SOURCE = "kernel.cpp"
LIBRARY = "kernel.so"

_log = logging.getLogger("attngen.cpu")
_VARIABLE = settings.variable("cxx")

_FLAGS = (
    *("-std=c++17", "-O3", "-fPIC", "-shared", "-fvisibility=hidden", "-w"),
    *("-fwrapv", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fdiagnostics-color=never"),
    # On Linux a weak symbol may stay undefined; Apple's linker has to be told.
    *(("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ()),
)
_AVX2 = ("-mavx2", "-mfma", "-mf16c")
_AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma", "-mf16c")
_ISA_FLAGS: dict[str, tuple[str, ...]] = {
    "avx512_bf16": (*_AVX512, "-mavx512bf16"),
    "avx512": _AVX512,
    "avx2": _AVX2,
    "portable": (),
}
_FULL = ("No space left on device", "Disk quota exceeded", "File too large")


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C++ compiler that runs on this machine: the words of its command, and what it says of its version."""

    command: tuple[str, ...]
    version: str


@dataclass(frozen=True, slots=True)
class NoCompiler:
    """No C++ compiler runs on this machine; the caller falls back to the reference."""

    reason: str


def find() -> Compiler | NoCompiler:
    """The C++ compiler: `ATTNGEN_CXX` or `$CXX`, g++, clang++. Looked for once; without one, one warning is logged."""
    return _find(settings.current().cxx, os.environ.get("PATH", ""))


def version() -> str:
    """The compiler's version for the cache key. Raises `UnsupportedError` where there is no compiler."""
    return _require().version


def command() -> tuple[str, ...]:
    """The words of the compiler's command, options of `CXX` included. Raises `UnsupportedError` without a compiler."""
    return _require().command


def flags(isa: str) -> tuple[str, ...]:
    """The options for an instruction set, those of `ATTNGEN_CXXFLAGS` last; part of the cache key."""
    return (*_FLAGS, *_ISA_FLAGS[isa], *shlex.split(settings.current().cxxflags or ""))


def compile_shared(source: str, isa: str, out_dir: Path) -> Path:
    """Compile `source` into `out_dir`/kernel.so for an instruction set of `isa.REQUIRED`; returns its path.

    The source stays beside it as kernel.cpp. Raises `BuildError` with the generated line when the compiler refuses it,
    `UnsupportedError` without a compiler, and `OSError` (ENOSPC) on a full disk. Ctrl-C kills the compiler.
    """
    compiler = _require()
    source_path, library_path = out_dir / SOURCE, out_dir / LIBRARY
    source_path.write_text(source, encoding="utf-8")
    # The compiler's own temporary files go with the directory when it is killed.
    with tempfile.TemporaryDirectory(dir=out_dir, prefix="cxx-") as scratch:
        code, output = _run(_command(compiler, isa, source_path, library_path), scratch)
    if code == 0 and library_path.is_file():
        return library_path
    library_path.unlink(missing_ok=True)
    if any(text in output for text in _FULL):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(library_path))
    kept = _keep(source)
    command = shlex.join(_command(compiler, isa, kept, kept.with_name(LIBRARY)))
    raise BuildError(f"{explain(code, output, source, SOURCE)}\n  command: {command}\n  the source was kept in {kept}")


def _keep(source: str) -> Path:
    # The build directory goes away with the failed build; this stays for a look and for a bug report.
    kept = Path(tempfile.mkdtemp(prefix="attngen-failed-")) / SOURCE
    kept.write_text(source, encoding="utf-8")
    return kept


def _require() -> Compiler:
    found = find()
    if isinstance(found, NoCompiler):
        raise UnsupportedError(f"the cpu backend cannot build kernels: {found.reason}")
    return found


def _command(compiler: Compiler, isa: str, source: Path, library: Path) -> list[str]:
    return [*compiler.command, *flags(isa), str(source), "-o", str(library)]


@functools.cache
def _find(chosen: str | None, path: str) -> Compiler | NoCompiler:
    for words in filter(None, (shlex.split(chosen or ""), ["g++"], ["clang++"])):
        found = _probe(words, path)
        if found is not None:
            return found
        if chosen is not None and words == shlex.split(chosen):
            _log.warning("the C++ compiler %r of %s or CXX does not run; g++ and clang++ are tried", chosen, _VARIABLE)
    tried = ", ".join(filter(None, (chosen, "g++", "clang++")))
    missing = NoCompiler(
        f"no C++ compiler runs here (tried {tried}). Install g++ or clang++, or set {_VARIABLE} to the path of one."
    )
    _log.warning("%s Until then kernels run in the slow reference.", missing.reason)
    return missing


def _probe(words: list[str], path: str) -> Compiler | None:
    program = shutil.which(words[0], path=path)
    if program is None:
        return None
    try:
        answer = subprocess.run(
            [program, *words[1:], "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    except OSError:
        return None
    lines = answer.stdout.splitlines()
    if answer.returncode != 0 or not lines:
        return None
    target = [line for line in lines if line.startswith("Target:")]
    return Compiler((program, *words[1:]), "; ".join(lines[:1] + target))


def _run(command: list[str], scratch: str) -> tuple[int, str]:
    # Its own session: Ctrl-C reaches only us, and the group can be killed with the passes that the driver started.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C", "TMPDIR": scratch},
        start_new_session=True,
    )
    try:
        output, _ = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return process.returncode, output
