"""What the libraries of attngen offer, by name: for SPEC, and for `attngen list`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from attngen.errors import InputError

if TYPE_CHECKING:
    from attngen.ir.nodes import Grid
    from attngen.spec import Spec

KINDS = ("mechanisms", "masks", "scores", "normalizers", "weights")
HELPERS = frozenset({"build", "chained", "named", "ordered", "streaming"})
"""What libraries export beside their entries."""


def entries(kind: str) -> dict[str, Callable[..., Any]]:
    """The functions of a library by name, in its own order."""
    module = import_module(f"attngen.{kind}")
    known = getattr(module, "ALL", None)
    if isinstance(known, dict):
        return dict(known)
    found = {name: getattr(module, name) for name in module.__all__ if name not in HELPERS}
    return {name: value for name, value in found.items() if inspect.isfunction(value)}


def libraries() -> tuple[str, ...]:
    """Every name that `mechanism` takes."""
    return tuple(dict.fromkeys(name for kind in KINDS[:-1] for name in entries(kind)))


def mechanism(text: str, dims: Grid | None = None) -> Spec:
    """The Spec of `name:key=value`: a mechanism, or a mask, a score or a normalizer on its own."""
    from attngen.mechanisms import build
    from attngen.spec import Spec

    name = text.partition(":")[0]
    for kind, keyword in (("mechanisms", None), ("masks", "mask"), ("scores", "score"), ("normalizers", "normalizer")):
        known = entries(kind)
        if name not in known:
            continue
        if dims is not None and "dims" in inspect.signature(known[name]).parameters and "dims=" not in text:
            given = f"dims={'x'.join(map(str, dims.dims))}"
            text, dims = f"{text},{given}" if "=" in text else f"{name}:{given}", None
        space: dict[str, Any] = {} if dims is None else {"space": dims}
        if keyword is not None:
            part = call(known[name], text)
            return Spec(**{keyword: part}, **space)
        if dims is not None:
            raise InputError(f"--grid: the mechanism {name!r} is not over a grid; leave it out")
        return build(text)
    raise InputError(f"SPEC: no mechanism, mask, score or normalizer is called {name!r}")


def call(make: Callable[..., Any], text: str) -> Any:
    """`make` called with the keys and values of `name:key=value,key=value`."""
    from attngen.mechanisms.registry import parse_value
    from attngen.suggest import nearest

    name, _, rest = text.partition(":")
    parameters = inspect.signature(make).parameters
    given: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not value:
            raise InputError(f"{name}: got {item!r}; write key=value")
        if key not in parameters:
            keys = ", ".join(parameters) or "none"
            raise InputError(f"{name}: unknown key {key!r}{nearest(key, parameters)}; keys: {keys}")
        given[key] = parse_value(value)
    missing = [p.name for p in parameters.values() if p.default is p.empty and p.name not in given]
    if missing:
        raise InputError(f"{name}: {', '.join(missing)} is missing; write {name}:{missing[0]}=...")
    return make(**given)


def summary(function: Callable[..., Any]) -> str:
    """The first line of the docstring."""
    return (inspect.getdoc(function) or "").partition("\n")[0]


def signature(name: str, function: Callable[..., Any]) -> str:
    """`name(required, optional=default)`, without annotations and without what every mechanism takes."""
    shown = []
    for p in inspect.signature(function).parameters.values():
        if p.kind is p.KEYWORD_ONLY and p.name in ("score", "normalizer", "scale", "numerics"):
            continue
        shown.append(p.name if p.default is p.empty else f"{p.name}={_default(p.default)}")
    return f"{name}({', '.join(shown)})"


def _default(value: Any) -> str:
    return repr(value) if isinstance(value, str | int | float | tuple | bool) or value is None else "..."
