"""The normalizers that go by name: `Spec(normalizer="sigmoid")`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from attngen.arguments import refuse, shown
from attngen.errors import SpecError
from attngen.normalizers.normalizer import Normalizer
from attngen.suggest import nearest

ALL: dict[str, Callable[..., Normalizer]] = {}
"""By name: what the package's `__init__` imports, which is the one place where it is listed."""

APART = ("declare", "normalizer", "registry")
"""Modules of the package that hold tools."""


def register(names: Mapping[str, object]) -> None:
    """Takes in the library functions among the names of the package."""
    for name, value in names.items():
        package, _, module = getattr(value, "__module__", "").rpartition(".")
        if package == __package__ and module not in APART and callable(value) and not isinstance(value, type):
            ALL[name] = value


def named(value: object) -> Normalizer:
    """The normalizer of a name, or a declaration itself. Raises `SpecError` with the nearest name."""
    if isinstance(value, Normalizer):
        return value
    if not isinstance(value, str):
        hint = f" (call it: normalizers.{getattr(value, '__name__', '')}(...))" if value in ALL.values() else ""
        raise refuse("normalizer", value, f"a name, or an object of attngen.normalizers{hint}")
    make = ALL.get(value)
    if make is None:
        raise SpecError(f"normalizer: got {shown(value)}; allowed: {', '.join(ALL)}{nearest(value, ALL)}")
    needed = [p.name for p in inspect.signature(make).parameters.values() if p.default is p.empty]
    if needed:
        raise SpecError(f"normalizer: {value!r} needs {', '.join(needed)}; write normalizers.{value}({needed[0]}=...)")
    return make()
