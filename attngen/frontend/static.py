"""`attngen.static`: numbers that are part of the definition, not inputs of a call."""

from __future__ import annotations

from typing import Any, TypeVar

from attngen.errors import SpecError

T = TypeVar("T")


class StaticInt(int):
    """An int that is compiled in."""

    def __repr__(self) -> str:
        return f"attngen.static({int(self)})"


class StaticFloat(float):
    """A float that is compiled in."""

    def __repr__(self) -> str:
        return f"attngen.static({float(self)})"


class StaticBool(int):
    """A bool that is compiled in; `bool` itself cannot be subclassed."""

    def __repr__(self) -> str:
        return f"attngen.static({bool(self)})"


def static(value: T) -> T:
    """Marks a number as a constant of the kernel instead of a number read anew at every call.

    `window = attngen.static(256)` outside of a mask, or `attngen.static(window)` inside. A kernel with another value is
    another kernel. Text, None and objects are constants anyway and pass through. Raises `SpecError` for tensors.
    """
    from attngen.frontend.scalar import Proxy

    marked: Any = value
    if isinstance(marked, Proxy):
        marked = marked.concrete("attngen.static")
    elif hasattr(marked, "item") and hasattr(marked, "ndim"):
        if marked.ndim:
            raise SpecError("attngen.static: got a tensor; only numbers can be compiled in, tensors are inputs")
        marked = static(marked.item())
    elif isinstance(marked, bool):
        marked = StaticBool(marked)
    elif isinstance(marked, int):
        marked = StaticInt(marked)
    elif isinstance(marked, float):
        marked = StaticFloat(marked)
    result: T = marked
    return result


def plain(value: object) -> object:
    """A marked number as the plain Python number."""
    if isinstance(value, StaticBool):
        return bool(value)
    if isinstance(value, StaticInt):
        return int(value)
    if isinstance(value, StaticFloat):
        return float(value)
    return value


# Called as it is inside of traced functions, not traced into.
static.__attngen_intrinsic__ = True  # type: ignore[attr-defined]
