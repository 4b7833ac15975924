"""Which instruction sets this machine has, and which of them the generated C++ is built for."""

from __future__ import annotations

import functools
import platform
import subprocess
import sys
from pathlib import Path

from attngen import settings
from attngen.errors import InputError

# Best first. A set is there when the processor has every flag of its row; flags are spelled as in /proc/cpuinfo.
_AVX2 = frozenset(("avx2", "fma", "f16c"))
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512vl", "avx512dq"}
REQUIRED: dict[str, frozenset[str]] = {
    "avx512_bf16": _AVX512 | {"avx512_bf16"},
    "avx512": _AVX512,
    "avx2": _AVX2,
    "portable": frozenset(),
}
_CPUINFO = Path("/proc/cpuinfo")
_SYSCTL_KEYS = ("machdep.cpu.brand_string", "machdep.cpu.features", "machdep.cpu.leaf7_features")


def available() -> tuple[str, ...]:
    """The instruction sets of this machine, best first. `portable` is always there."""
    _, flags = processor()
    return tuple(name for name, required in REQUIRED.items() if required <= flags)


def choose() -> str:
    """The instruction set to build for: `ATTNGEN_ISA`, or the best one. Raises `InputError` for one that is missing."""
    forced = settings.current().isa
    have = available()
    if forced is None:
        return have[0]
    if forced not in have:
        raise InputError(f"{settings.variable('isa')}={forced}: this machine has no {forced}; it has {', '.join(have)}")
    return forced


def identity() -> str:
    """The processor for the cache key: machine, model name, and the flags that a kernel may rely on."""
    name, flags = processor()
    known = sorted(flags & REQUIRED["avx512_bf16"])
    return f"{platform.machine()}; {name}; {' '.join(known) or 'no vector flags'}"


@functools.cache
def processor() -> tuple[str, frozenset[str]]:
    """Model name and flags of the processor, read once per process; ("unknown", no flags) where nothing tells."""
    if sys.platform == "darwin":
        return _from_sysctl(_sysctl())
    try:
        return _from_cpuinfo(_first_block())
    except OSError:
        return platform.processor() or "unknown", frozenset()


def _first_block() -> list[str]:
    # The file has a block per core, and the kernel takes milliseconds to write them all on a large machine.
    lines: list[str] = []
    with _CPUINFO.open() as stream:
        for line in stream:
            if not line.strip() and lines:
                break
            lines.append(line)
    return lines


def _from_cpuinfo(lines: list[str]) -> tuple[str, frozenset[str]]:
    values = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    # Arm has no model name; implementer and part number stand for it.
    arm = f"implementer {values.get('CPU implementer', '?')} part {values.get('CPU part', '?')}"
    name = values.get("model name") or (arm if "CPU part" in values else "unknown")
    return name, frozenset((values.get("flags") or values.get("Features") or "").split())


def _sysctl() -> list[str]:
    asked = (subprocess.run(("sysctl", "-n", key), capture_output=True, text=True) for key in _SYSCTL_KEYS)
    return [answer.stdout.strip() for answer in asked]


def _from_sysctl(answers: list[str]) -> tuple[str, frozenset[str]]:
    name, *flags = answers
    return name or "unknown", frozenset(" ".join(flags).lower().split())
