"""Loads a built shared library and hands out its entry function."""

from __future__ import annotations

import _ctypes
import ctypes
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attngen.codegen import cache
from attngen.codegen.backends.cpu.openmp import share_torch_runtime
from attngen.errors import BuildError

CType = Any
Function = Callable[..., Any]

_log = logging.getLogger("attngen.cpu")
_guard = threading.Lock()
_loaded: dict[Path, ctypes.CDLL] = {}


def load(path: Path, symbol: str, argtypes: Sequence[CType], restype: CType = None) -> Function:
    """The function `symbol` of the library at `path`; the GIL is released while it runs.

    The library stays loaded until the process ends, also when its file is removed. Raises `OSError` where it cannot be
    loaded or has no such function.
    """
    share_torch_runtime()
    prototype = ctypes.CFUNCTYPE(restype, *argtypes)
    with _guard:
        library = _loaded.get(path)
        fresh = library is None
        if library is None:
            library = ctypes.CDLL(str(path))
        try:
            function = prototype((symbol, library))
        except AttributeError as problem:
            if fresh:
                # The loader knows libraries by name: left open, this one would hide what is rebuilt at its path.
                _ctypes.dlclose(library._handle)
            raise OSError(f"{path} has no function {symbol}") from problem
        _loaded[path] = library
    return function


def load_entry(
    fetch: Callable[[], cache.Entry], file: str, symbol: str, argtypes: Sequence[CType], restype: CType = None
) -> tuple[cache.Entry, Function]:
    """Load `symbol` from the file of the entry that `fetch` (a `cache.build_once` call) gives.

    An entry that does not load is damaged, whatever its hashes say: it is rebuilt once, then it is a `BuildError`.
    """
    entry = fetch()
    try:
        return entry, load(entry.path(file), symbol, argtypes, restype)
    except OSError as problem:
        _log.warning("the cache entry %s is rebuilt: %s", entry.directory, problem)
    cache.discard(entry)
    entry = fetch()
    try:
        return entry, load(entry.path(file), symbol, argtypes, restype)
    except OSError as problem:
        raise BuildError(f"a kernel that was just built cannot be loaded: {problem}") from problem
