"""Python's builtins as traced functions see them: the same, but they understand values under trace."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, NoReturn

from attngen.errors import TraceError
from attngen.frontend import positions
from attngen.frontend.scalar import Proxy, call
from attngen.frontend.tensor import TensorProxy
from attngen.frontend.tracer import ACTIVE, is_array


class _Kind(type):
    """int, float, bool: conversions of values under trace, and `isinstance` checks that know them."""

    real: type

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], Proxy):
            return args[0].cast(cls.real.__name__, cls.real)
        return cls.real(*args, **kwargs)

    def __instancecheck__(cls, value: Any) -> bool:
        if isinstance(value, Proxy):
            python = value.host is not None and not is_array(value.tracer.value(value.host))
            return python and value.expr.type in ("bool", cls.real.__name__)[cls.real is not int :]
        return isinstance(value, cls.real)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is cls.real

    def __hash__(cls) -> int:
        return hash(cls.real)

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls.real, name)


def _kind(real: type) -> _Kind:
    made = _Kind(real.__name__, (), {})
    made.real = real
    return made


def unwrapped_types(tree: Any) -> Any:
    """Arguments with the real int, float and bool, for functions that take them as dtypes."""
    if isinstance(tree, _Kind):
        return tree.real
    if type(tree) in (tuple, list):
        return type(tree)(unwrapped_types(item) for item in tree)
    if type(tree) is dict:
        return {key: unwrapped_types(item) for key, item in tree.items()}
    return tree


def _extreme(name: str) -> Callable[..., Any]:
    real: Callable[..., Any] = getattr(builtins, name)

    def chosen(*args: Any, **kwargs: Any) -> Any:
        items = list(args[0]) if len(args) == 1 else list(args)
        proxies = [item for item in items if isinstance(item, Proxy)]
        if kwargs or not proxies:
            return real(items, **kwargs) if items else real(*args, **kwargs)
        tracer = proxies[0].tracer
        best = proxies[0].lift(items[0])
        for item in items[1:]:
            other = proxies[0].lift(item)
            if best is None or other is None:
                raise tracer.error(f"{name}() of a number and {item!r}")
            hosts = [getattr(p.expr, "value", None) if p.host is None else p.host for p in (best, other)]
            host = None if None in hosts else call(f"{name}({{}}, {{}})", real, *hosts)
            best = Proxy(tracer, tracer.op(f"{name}imum", best.expr, other.expr), host)
        return best

    return chosen


def _combined(name: str, stop: bool) -> Callable[..., Any]:
    def combined(items: Any) -> Any:
        found: Any = not stop
        for item in items:
            if isinstance(item, Proxy):
                item = item.cast("bool")
                if isinstance(found, Proxy):
                    item = found | item if stop else found & item
                found = item
            elif bool(item) is stop:
                return stop
        return found

    combined.__name__ = name
    return combined


def _len(value: Any) -> Any:
    return value.shape[0] if isinstance(value, TensorProxy) else len(value)


def _isinstance(value: Any, types: Any) -> bool:
    if isinstance(types, tuple):
        return any(_isinstance(value, one) for one in types)
    types = getattr(types, "__attngen_value__", types)
    if isinstance(value, TensorProxy | Proxy) and not isinstance(types, _Kind):
        import torch

        captured = isinstance(value, Proxy) and value.host is not None and not is_array(value.tracer.value(value.host))
        return not captured and isinstance(types, type) and issubclass(torch.Tensor, types)
    return isinstance(value, types)


def _super(*args: Any) -> NoReturn:
    raise TraceError("super() cannot be followed here; give the method of the parent another name and call that",
                     source=positions.current())  # fmt: skip


def _import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    from attngen.frontend.capture import capture
    from attngen.frontend.paths import Direct

    module = __import__(name, globals, locals, fromlist, level)
    tracer = ACTIVE.get()
    return module if tracer is None else capture(tracer, module, Direct(name, name, module))


OVERRIDES: dict[str, Any] = {
    "int": _kind(int),
    "float": _kind(float),
    "bool": _kind(bool),
    "min": _extreme("min"),
    "max": _extreme("max"),
    "any": _combined("any", True),
    "all": _combined("all", False),
    "len": _len,
    "isinstance": _isinstance,
    "super": _super,
    "__import__": _import,
}
BUILTINS: dict[str, Any] = {**vars(builtins), **OVERRIDES}
REPLACED: dict[int, Any] = {id(getattr(builtins, name)): value for name, value in OVERRIDES.items()}
