"""The environment variables that attngen reads, in one typed table. `attngen doctor` prints it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal, cast

from attngen.errors import InputError

AutotuneMode = Literal["off", "cached", "quick", "full"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment asks for. Read afresh by `current()`, so tests and notebooks can change it."""

    cache_dir: Path | None = field(
        default=None, metadata={"help": "where built kernels live (default: the user's cache directory)"}
    )
    log: str = field(default="WARNING", metadata={"help": "level of the logger `attngen`: DEBUG, INFO, WARNING, ERROR"})
    backend: str | None = field(default=None, metadata={"help": "use only this backend: cpu, triton, cuda, reference"})
    autotune: AutotuneMode = field(
        default="cached", metadata={"help": "off, cached, quick or full: how configs are chosen"}
    )
    record: Path | None = field(
        default=None, metadata={"help": "a file that calls are written down in, for attngen tune --from"}
    )
    disable_jit: bool = field(
        default=False, metadata={"help": "1: never compile; a kernel that is not in the cache is an error"}
    )
    debug: frozenset[str] = field(default=frozenset(), metadata={"help": "print stages: ir,passes,source"})
    cxx: str | None = field(default=None, metadata={"help": "the C++ compiler (default: $CXX, g++, clang++)"})
    cxxflags: str | None = field(
        default=None, metadata={"help": "options for it after attngen's own, such as -g, or -Og to build sooner"}
    )
    isa: str | None = field(
        default=None, metadata={"help": "force an instruction set: avx512_bf16, avx512, avx2, portable"}
    )


CHOICES: dict[str, tuple[str, ...]] = {
    "log": ("DEBUG", "INFO", "WARNING", "ERROR"),
    "backend": ("cpu", "triton", "cuda", "reference"),
    "autotune": ("off", "cached", "quick", "full"),
    "debug": ("ir", "passes", "source"),
    "isa": ("avx512_bf16", "avx512", "avx2", "portable"),
}


def variable(name: str) -> str:
    """The environment variable of a setting: `cache_dir` -> `ATTNGEN_CACHE_DIR`."""
    return f"ATTNGEN_{name.upper()}"


def current() -> Settings:
    """The settings of this moment. Raises `InputError` naming the variable, its value and the allowed ones."""
    given = {f.name: os.environ[variable(f.name)] for f in fields(Settings) if os.environ.get(variable(f.name))}
    return Settings(
        cache_dir=Path(given["cache_dir"]).expanduser() if "cache_dir" in given else None,
        log=_choice("log", given.get("log", "WARNING").upper()),
        backend=_choice("backend", given["backend"]) if "backend" in given else None,
        autotune=cast(AutotuneMode, _choice("autotune", given.get("autotune", "cached"))),
        record=Path(given["record"]).expanduser() if "record" in given else None,
        disable_jit=given.get("disable_jit", "0").lower() not in ("0", "false", "no", "off"),
        debug=frozenset(_choice("debug", part.strip()) for part in given.get("debug", "").split(",") if part.strip()),
        cxx=given.get("cxx") or os.environ.get("CXX") or None,
        cxxflags=given.get("cxxflags"),
        isa=_choice("isa", given["isa"]) if "isa" in given else None,
    )


def _choice(name: str, value: str) -> str:
    if value not in CHOICES[name]:
        raise InputError(f"{variable(name)}={value!r} is not known; allowed: {', '.join(CHOICES[name])}")
    return value
