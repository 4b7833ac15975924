"""Loads a generated module from its file: Triton reads the source of a kernel from there."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Callable
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
        with _interpreter:
            return launch(*arguments, **options)

    return waiting
