"""Makes torch's OpenMP runtime visible to the generated code, which calls GOMP_parallel through a weak symbol.

Two runtimes in one process fight over the cores, so kernels bring none of their own and use the one that torch loaded.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from pathlib import Path

_NAMES = ("libgomp", "libiomp5", "libomp")


@functools.cache
def share_torch_runtime() -> Path | None:
    """Import torch and let libraries loaded later see its OpenMP. Returns the runtime's file, None without one.

    Without a runtime the weak symbol stays null, and the generated code runs on one thread.
    """
    import torch  # the edge: nothing above the loading of a built kernel needs it

    return share(Path(torch.__file__).parent)


def share(home: Path) -> Path | None:
    """The same for the runtime that the package in `home` loaded."""
    runtime = choose(mapped(), home)
    if not visible() and runtime is not None:
        ctypes.CDLL(str(runtime), mode=ctypes.RTLD_GLOBAL)
    return runtime


def visible() -> bool:
    """Whether a library that is loaded now would find GOMP_parallel."""
    return hasattr(ctypes.CDLL(None), "GOMP_parallel")


def mapped() -> tuple[Path, ...]:
    """The files of the OpenMP runtimes in this process."""
    if sys.platform != "linux":
        return ()
    lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    paths = (Path(line.split(maxsplit=5)[5]) for line in lines if line.count("/"))
    return tuple(dict.fromkeys(path for path in paths if path.name.startswith(_NAMES)))


def choose(runtimes: tuple[Path, ...], home: Path) -> Path | None:
    """The runtime of the package in `home`: from its own folders, else the only kind that is there."""
    beside = [path for path in runtimes if _inside(path, home) or _inside(path, home.with_name(f"{home.name}.libs"))]
    if not runtimes and sys.platform == "darwin":
        beside = sorted((home / "lib").glob("lib*omp*.dylib"))
    return next(iter((*beside, *runtimes)), None)


def _inside(path: Path, directory: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory))
