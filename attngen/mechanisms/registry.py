"""The mechanisms by name, and the command line's form of a call: `neighborhood:dims=32x32,kernel_size=7`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping

from attngen.errors import SpecError
from attngen.spec import Spec
from attngen.suggest import nearest

ALL: dict[str, Callable[..., Spec]] = {}
"""By name: what the package's `__init__` imports, which is the one place where it is listed."""

APART = ("features", "registry")
"""Modules of the package that hold tools."""


def register(names: Mapping[str, object]) -> None:
    """Takes in the library functions among the names of the package."""
    for name, value in names.items():
        package, _, module = getattr(value, "__module__", "").rpartition(".")
        if package == __package__ and module not in APART and callable(value) and not isinstance(value, type):
            ALL[name] = value


Value = bool | int | float | str | tuple[bool | int, ...]


def build(text: str) -> Spec:
    """The Spec of `name` or `name:key=value,key=value`.

    Values are integers, numbers, true and false, words, or several integers or truth values with an x between them
    (32x32, truexfalse). Raises `SpecError` for an unknown name or key, with the nearest one, and for a missing or
    illegal value.
    """
    name, colon, rest = text.strip().partition(":")
    make = ALL.get(name)
    if make is None:
        raise SpecError(f"mechanism: got {name!r}; allowed: {', '.join(ALL)}{nearest(name, ALL)}")
    parameters = inspect.signature(make).parameters
    given: dict[str, Value] = {}
    for item in rest.split(",") if colon and rest.strip() else ():
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not value:
            raise SpecError(f"{name}: got {item.strip()!r}; write key=value, for example {next(iter(parameters))}=...")
        if key not in parameters:
            raise SpecError(f"{name}: unknown key {key!r}{nearest(key, parameters)}; keys: {', '.join(parameters)}")
        if key in given:
            raise SpecError(f"{name}: {key} is given twice")
        given[key] = parse_value(value)
    missing = [p.name for p in parameters.values() if p.default is p.empty and p.name not in given]
    if missing:
        raise SpecError(f"{name}: {', '.join(missing)} is missing; write {name}:{missing[0]}=...")
    return make(**given)


def parse_value(text: str) -> Value:
    """One value of the command line."""
    if re.fullmatch(r"(\d+|true|false)(x(\d+|true|false))+", text, re.IGNORECASE):
        return tuple(_word(part) for part in text.lower().split("x"))
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _word(text: str) -> bool | int:
    return text == "true" if text in ("true", "false") else int(text)
