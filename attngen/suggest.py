"""The nearest known name, for messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import NoReturn


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'causal'?)`, or nothing where no name is near."""
    found = get_close_matches(name, list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def missing(module: str, known: Iterable[str]) -> Callable[[str], NoReturn]:
    """A module's `__getattr__`: an unknown name is answered with the nearest known one."""

    def getattribute(name: str) -> NoReturn:
        raise AttributeError(f"module {module!r} has no attribute {name!r}{nearest(name, known)}")

    return getattribute
