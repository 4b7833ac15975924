"""Copies of the user's functions whose variables, globals and defaults are stand-ins. The originals are not touched."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

from attngen.errors import SpecError
from attngen.frontend.paths import Attribute, Cell, Default, Direct, Global, Item, Node
from attngen.frontend.positions import MARK
from attngen.frontend.refusals import random
from attngen.frontend.tracer import Tracer

AUTOGRAD = "gradients are derived by attngen; call what its forward computes instead of an autograd.Function"


class Followed:
    """A user's function to be traced into: the plain function, and what is bound to its first and named parameters."""

    __slots__ = ("function", "keywords", "leading", "tracer")

    def __init__(
        self, tracer: Tracer, function: FunctionType, leading: tuple[Any, ...] = (), keywords: Any = None
    ) -> None:
        self.tracer = tracer
        self.function = function
        self.leading = leading
        self.keywords: dict[str, Any] = keywords or {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return clone(self.tracer, self.function)(*self.leading, *args, **{**self.keywords, **kwargs})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.function, name)


class LibraryFunction:
    """A function of torch, math or another library."""

    __slots__ = ("function", "tracer")

    def __init__(self, tracer: Tracer, function: Callable[..., Any]) -> None:
        self.tracer = tracer
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from attngen.frontend.dispatch import dispatch, is_spelled, values

        function = self.function
        module = getattr(function, "__module__", None) or type(getattr(function, "__self__", function)).__module__
        home = module.partition(".")[0]
        if home == "random":
            raise self.tracer.error(random(function.__name__))
        if home in ("torch", "math", "numpy", "operator", "_operator"):
            if isinstance(function, FunctionType) and next(values((args, kwargs)), None) and not is_spelled(function):
                return clone(self.tracer, function)(*args, **kwargs)
            return dispatch(self.tracer, function, args, kwargs)
        return function(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        from attngen.frontend.capture import library

        return library(self.tracer, getattr(self.function, name))


def follow(tracer: Tracer, value: Any, node: Node) -> Callable[..., Any]:
    """A callable of the user taken apart: partials, methods, wrapped functions, objects with `__call__`, modules."""
    from attngen.frontend.capture import capture

    value = getattr(value, "_torchdynamo_orig_callable", value)
    if isinstance(value, FunctionType):
        return Followed(tracer, value)
    if isinstance(value, MethodType):
        if value.__func__.__module__ == "torch.autograd.function":
            raise tracer.error(f"{node.text}: {AUTOGRAD}")
        owner = capture(tracer, value.__self__, _self_node(value, node))
        if isinstance(value.__func__, FunctionType):
            return Followed(tracer, value.__func__, (owner,))
    if isinstance(value, functools.partial):
        return _partial(tracer, value, node)
    if hasattr(value, "__wrapped__"):
        return follow(tracer, value.__wrapped__, Attribute(node.text, node.name, node, "__wrapped__"))
    if isinstance(value, type):
        return _construct(tracer, value, node)
    for name in ("forward", "__call__"):
        method = getattr(type(value), name, None)
        if isinstance(method, FunctionType) and (name == "__call__" or hasattr(value, "_parameters")):
            from attngen.frontend.objects import CapturedObject

            return Followed(tracer, method, (CapturedObject(tracer, value, node),))
    raise SpecError(
        f"{node.text}: a {type(value).__name__} cannot be traced; a Python function, a lambda, a method, a "
        "functools.partial or an object with a Python __call__ is needed"
    )


def _self_node(method: MethodType, node: Node) -> Node:
    if isinstance(node, Attribute):
        return node.parent
    return Direct("self", "self", method.__self__)


def _partial(tracer: Tracer, value: functools.partial[Any], node: Node) -> Followed:
    from attngen.frontend.capture import capture

    inner = follow(tracer, value.func, Attribute(node.text, node.name, node, "func"))
    if not isinstance(inner, Followed):
        raise SpecError(f"{node.text}: a partial of a class cannot be traced")
    names = inner.function.__code__.co_varnames[len(inner.leading) :]
    args, keywords = (Attribute(f"{node.text}.{part}", node.name, node, part) for part in ("args", "keywords"))
    given = enumerate(zip(value.args, names, strict=False))
    leading = [capture(tracer, item, Item(name, name, args, i)) for i, (item, name) in given]
    named = {key: capture(tracer, item, Item(key, key, keywords, key)) for key, item in value.keywords.items()}
    return Followed(tracer, inner.function, (*inner.leading, *leading), {**inner.keywords, **named})


def _construct(tracer: Tracer, value: type, node: Node) -> type:
    """Plain records may be made inside of a traced function; a class with code of its own would not be followed."""
    made = getattr(value, "__init__", None)
    if isinstance(made, FunctionType) and made.__code__.co_filename != "<string>":
        raise tracer.error(f"{node.text}(...): make objects with an __init__ of their own outside of the function")
    return value


def clone(tracer: Tracer, function: FunctionType) -> FunctionType:
    """The function with stand-ins for all that it captures. Made anew in every run, so that runs do not meet."""
    from attngen.frontend.capture import capture

    key = ("function", id(function))
    if key in tracer.clones:
        made: FunctionType = tracer.clones[key]
        return made
    code = function.__code__
    cells = []
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        cells.append(_cell(tracer, name, cell))
    made = FunctionType(code, _globals(tracer, function), function.__name__, None, tuple(cells))
    tracer.clones[key] = made
    first = code.co_argcount - len(function.__defaults__ or ())
    made.__defaults__ = tuple(
        capture(tracer, value, Default(code.co_varnames[first + i], code.co_varnames[first + i], function, i))
        for i, value in enumerate(function.__defaults__ or ())
    )
    made.__kwdefaults__ = {
        name: capture(tracer, value, Default(name, name, function, name))
        for name, value in (function.__kwdefaults__ or {}).items()
    }
    made.__qualname__ = function.__qualname__
    return made


def _cell(tracer: Tracer, name: str, cell: CellType) -> CellType:
    from attngen.frontend.capture import capture

    try:
        value = cell.cell_contents
    except ValueError:
        return CellType()
    return CellType(capture(tracer, value, Cell(name, name, cell)))


def _globals(tracer: Tracer, function: FunctionType) -> dict[str, Any]:
    from attngen.frontend.capture import capture
    from attngen.frontend.python import BUILTINS

    real = function.__globals__
    copy: dict[str, Any] = tracer.clones.setdefault(
        ("globals", id(real)),
        {MARK: tracer, "__builtins__": BUILTINS, "__name__": real.get("__name__"), "__loader__": real.get("__loader__"),
         "__spec__": real.get("__spec__"), "__package__": real.get("__package__")},
    )  # fmt: skip
    for name in _names(function.__code__):
        if name in real and name not in copy:
            copy[name] = capture(tracer, real[name], Global(name, name, real, name))
    return copy


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
