"""attngen inside of other libraries: each module imports its library when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from attngen.suggest import nearest

__all__ = ["flash", "flex", "transformers"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module(f"attngen.integrations.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{nearest(name, __all__)}")
