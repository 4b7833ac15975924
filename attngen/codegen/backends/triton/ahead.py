"""Builds a Triton kernel ahead of time, for an architecture that need not be at hand.

Some of Triton's passes tell why they fail on stderr alone, or stop the process, and a module that was imported under
its interpreter cannot be compiled at all. `build_apart` answers all three, for the half second that a process takes.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from attngen.errors import BuildError, InputError

_TARGET = re.compile(r"sm_(\d{2,3})")
_DIVISIBLE = [["tt.divisibility", 16]]
_SERVE = "from attngen.codegen.backends.triton.ahead import serve; serve()"
_OF_THE_BUILDER = ("extern_libs", "ir_override", "ptx_options")
"""What Triton notes of the machine that built; a bundle does not carry it."""


@dataclass(frozen=True, slots=True)
class Binary:
    """A kernel for one architecture, with what the lint reads and the launcher needs.

    `shared` is the shared memory in bytes that a launch asks for. `num_warps` counts the warps that specialisation
    added. `log` is what the assembler said. `metadata` is Triton's own, fit for JSON.
    """

    name: str
    arch: str
    cubin: bytes
    ptx: str
    ttgir: str
    shared: int
    num_warps: int
    metadata: dict[str, Any]
    log: str = ""


def build_ahead(
    path: Path,
    entry: str,
    signature: Mapping[str, str],
    constants: Mapping[str, Any],
    divisible: Collection[str],
    target: str,
    num_warps: int,
    num_stages: int,
    line_info: bool = True,
) -> Binary:
    """Build the kernel `entry` of the file `path` for `target`, such as sm_90, in this process; no device is needed.

    `signature` has Triton's type of each argument (`*bf16`, `i32`), `constants` the value of each constexpr, and
    `divisible` the arguments that are multiples of 16. With `line_info` the machine code names the lines and the place
    of the source; without, equal sources give equal bytes. Raises `BuildError` with the line that Triton refuses, and
    `InputError` for arguments that do not fit the kernel. Nothing is left in Triton's cache. Triton's settings are
    changed for the time of the build, so one thread builds at a time; `build_apart` knows no such limit.
    """
    import triton
    from triton import knobs
    from triton.backends.compiler import GPUTarget

    capability = _capability(target)
    source = ast_source(_kernel(path, entry), signature, constants, divisible)
    options = {"num_warps": num_warps, "num_stages": num_stages}
    log = io.StringIO()
    with tempfile.TemporaryDirectory(prefix="attngen-triton-") as scratch, contextlib.ExitStack() as scopes:
        for part in (knobs.cache, knobs.nvidia, knobs.compilation):
            scopes.enter_context(part.scope())
        scopes.enter_context(contextlib.redirect_stdout(log))
        # A cached kernel would come without the words of the assembler.
        knobs.cache.dir = scratch
        knobs.nvidia.dump_ptxas_log = True
        if not line_info:
            knobs.compilation.disable_line_info = True
        try:
            built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        except Exception as error:
            raise BuildError(f"Triton refused {entry} for {target}: {_reason(error)}\n  source: {path}") from error
    metadata = json.loads(json.dumps(built.metadata._asdict(), default=vars))
    return Binary(
        name=built.metadata.name,
        arch=target,
        cubin=built.asm["cubin"],
        ptx=built.asm["ptx"],
        ttgir=built.asm["ttgir"],
        shared=built.metadata.shared,
        num_warps=built.metadata.num_warps,
        metadata={name: value for name, value in metadata.items() if name not in _OF_THE_BUILDER},
        log=log.getvalue(),
    )


def build_apart(path: Path, entry: str, *arguments: Any) -> Binary:
    """`build_ahead` in a process of its own, without Triton's interpreter.

    A pass that stops the process is a `BuildError` too. The message has the line that Triton left on stderr.
    """
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", _SERVE],
        input=pickle.dumps((path.absolute(), entry, *arguments)),
        capture_output=True,
        env=environment,
    )
    said = done.stderr.decode(errors="replace")
    if done.returncode:
        how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit status {done.returncode}"
        raise BuildError(f"Triton stopped with {how} while it built {entry}: {_line(said)}\n  source: {path}")
    outcome = pickle.loads(done.stdout)
    if isinstance(outcome, BuildError) and "error:" in said:
        raise BuildError(f"{outcome}\n  Triton said: {_line(said)}")
    if isinstance(outcome, Exception):
        raise outcome
    assert isinstance(outcome, Binary)
    return outcome


def serve() -> None:
    """The other side of `build_apart`: the arguments come in pickled, the binary or the error goes out."""
    try:
        outcome: Binary | Exception = build_ahead(*pickle.loads(sys.stdin.buffer.read()))
    except (BuildError, InputError) as error:
        outcome = type(error)(str(error))
    sys.stdout.buffer.write(pickle.dumps(outcome))


def _capability(target: str) -> int:
    found = _TARGET.fullmatch(target)
    if found is None:
        raise InputError(f"target: {target!r}; allowed: sm_ and the compute capability, such as sm_80, sm_90, sm_100")
    return int(found[1])


def _kernel(path: Path, entry: str) -> Any:
    # Executed from its text, so that Python leaves no compiled file beside it and reads none that is stale. The real
    # file name matters: Triton reads the source of a kernel again.
    module = ModuleType(f"attngen_ahead_{path.stem}")
    module.__file__ = str(path)
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module.__dict__)
    except SyntaxError as error:
        raise BuildError(f"Python refused the generated source, line {error.lineno}: {error.msg}\n  {path}") from error
    kernel = getattr(module, entry, None)
    if kernel is None:
        raise InputError(f"entry: {path} has no kernel {entry!r}")
    if type(kernel).__name__ == "InterpretedFunction":
        raise BuildError(
            f"{entry} was imported under Triton's interpreter, which compiles nothing; "
            "unset TRITON_INTERPRET before the first import of triton, or use build_apart"
        )
    return kernel


def ast_source(
    kernel: Any, signature: Mapping[str, str], constants: Mapping[str, Any], divisible: Collection[str]
) -> Any:
    """What Triton compiles: a kernel with the types, constants and divisibility of its arguments, all by name."""
    from triton.compiler import ASTSource

    names = list(kernel.arg_names)
    unknown = sorted({*signature, *constants, *divisible} - set(names))
    missing = [name for name in names if name not in signature and name not in constants]
    if unknown or missing:
        told = [f"it has no {', '.join(unknown)}"] * bool(unknown) + [f"{', '.join(missing)}: no type"] * bool(missing)
        raise InputError(f"arguments of {kernel.__name__}({', '.join(names)}): {'; '.join(told)}")
    types = {name: "constexpr" if name in constants else signature[name] for name in names}
    attributes = {(names.index(name),): _DIVISIBLE for name in divisible if name not in constants}
    return ASTSource(kernel, types, dict(constants), attributes)


def _reason(error: BaseException) -> str:
    """What Triton says and the line it says it of: of the innermost function, where one calls another."""
    from triton.compiler.errors import CompilationError

    while isinstance(error.__cause__, CompilationError):
        error = error.__cause__
    if isinstance(error, CompilationError):
        excerpt = str(error).splitlines()[1:]
        said = error.error_message or (repr(error.__cause__) if error.__cause__ else type(error).__name__)
        shown = [line for line in excerpt if line not in said.splitlines()]
        return "\n".join([said, *(f"    {line}" for line in shown)])
    return _line(str(error) or type(error).__name__)


def _line(text: str) -> str:
    """The line that tells most of an error: the assembler's, a failed assertion, any error, or else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for telling in (r"^ptxas.*\b(error|fatal)\b.*", r"Assertion .*", r"\berror: .*"):
        for line in lines:
            if found := re.search(telling, line):
                return found[0]
    return lines[-1] if lines else "it said nothing"
