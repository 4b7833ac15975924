"""Loads a generated module from its file: Triton reads the source of a kernel from there."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

from attngen.errors import BuildError

_loaded: dict[Path, ModuleType] = {}
_interpreter = threading.Lock()


def load(path: Path) -> ModuleType:
    """The module, loaded once. Raises `BuildError` where Python or Triton refuses it."""
    found = _loaded.get(path)
    if found is None:
        name = f"attngen_generated_{path.parent.name}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        found = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(found)
        except Exception as problem:
            raise BuildError(f"the generated module {path} does not load: {problem}") from problem
        _loaded[path] = found
    return found


def interpreted() -> bool:
    """Whether Triton runs under its interpreter in this process. It decides so when it is imported."""
    triton = sys.modules.get("triton")
    if triton is not None:
        return bool(triton.knobs.runtime.interpret)
    return os.environ.get("TRITON_INTERPRET", "") in ("1", "true", "on", "yes", "y")


def one_at_a_time(launch: Callable[..., Any]) -> Callable[..., Any]:
    """The launch, which waits for others of this process under Triton's interpreter: while it runs a kernel, it keeps
    the block it is at in a global, and has its own functions in the place of triton.language's."""
    if not interpreted():
        return launch

    @wraps(launch)
    def waiting(*arguments: Any, **options: Any) -> Any:
        with _interpreter, _patching_once():
            return launch(*arguments, **options)

    return waiting


@contextmanager
def _patching_once() -> Iterator[None]:
    """Has the interpreter put its functions in the place of triton.language's once for each function that a kernel
    calls, and not at every call: that takes a third of its time."""
    from triton.runtime import interpreter

    kind: Any = interpreter.InterpretedFunction
    patch, call, seen = getattr(interpreter, "_patch_lang", None), kind.__call__, set[Any]()
    if patch is None:  # another Triton
        yield
        return

    def patch_first(function: Any) -> Any:
        return None if function in seen else patch(function)

    def called(self: Any, *arguments: Any, **options: Any) -> Any:
        interpreter._patch_lang = patch_first
        try:
            return call(self, *arguments, **options)
        finally:
            interpreter._patch_lang = patch
            seen.add(self.fn)

    kind.__call__ = called
    try:
        yield
    finally:
        kind.__call__ = call
