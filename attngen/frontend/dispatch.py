"""Calls of library functions on values under trace: spelled in the IR, recorded for every call, or refused."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import cache
from typing import Any

from attngen.frontend import refusals
from attngen.frontend.methods import ATTRIBUTES, DEVICE, METHODS
from attngen.frontend.paths import Call, Node, nodes, text_of
from attngen.frontend.python import unwrapped_types
from attngen.frontend.scalar import Proxy, show
from attngen.frontend.spelling import FUNCTIONS, MATH
from attngen.frontend.static import plain
from attngen.frontend.tensor import TensorProxy
from attngen.frontend.tracer import TraceAttributeError, Tracer, is_array
from attngen.ir.expr import Const, const, symbols


def dispatch(tracer: Tracer, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call of a torch, math, NumPy or operator function, or of a tensor method, on values under trace."""
    name = name_of(function)
    if kwargs.get("out") is not None:
        raise tracer.error(f"`{name}(..., out=)`: a traced function must not change tensors; use the result")
    if name in refusals.RANDOM:
        raise tracer.error(refusals.random(name))
    found = list(values((args, kwargs)))
    tensors = [value for value in found if isinstance(value, TensorProxy)]
    moving = [value for value in found if isinstance(value, Proxy) and not is_host(value)]
    if tensors:
        return _on_tensors(tracer, function, name, args, kwargs, tensors, moving)
    if not found:
        return _on_constants(tracer, function, args, kwargs)
    spelled = _spelled(function, name, args)
    if spelled is not None:
        return spell(tracer, name, spelled, args, kwargs)
    if not moving:
        return lift(tracer, record(tracer, function, name, args, kwargs))
    raise unknown(tracer, name, moving[0])


def _on_tensors(
    tracer: Tracer, function: Any, name: str, args: Any, kwargs: Any, tensors: list[TensorProxy], moving: list[Proxy]
) -> Any:
    if name in ("to", "type_as", "expand_as") and isinstance(args[0], TensorProxy):
        # `.to(score)`: the dtype and the device of values under trace are not those of a tensor.
        rest = tuple(a for a in args[1:] if not isinstance(a, Proxy))
        if not rest and not without_device(kwargs):
            return args[0]
        return lift(tracer, record(tracer, method("to"), "to", (args[0], *rest), kwargs))
    if name == "embedding" and moving and isinstance(args[0], Proxy):
        return args[1][args[0]]
    if name in ("getitem", "select", "index_select") and moving and isinstance(args[0], TensorProxy):
        dim, index = (0, args[1]) if name == "getitem" else args[1:3]
        return args[0][(*[slice(None)] * operator.index(dim), index)] if name != "getitem" else args[0][index]
    if moving or not all(tensor.is_host() for tensor in tensors):
        partial = next((tensor for tensor in tensors if not tensor.is_host()), None)
        if partial is not None:
            partial.recorded()
        raise tensors[0].refuse_operand()
    if (name.endswith("_") and name.rstrip("_") not in ("and", "or")) or name == "__setitem__":
        raise tracer.error(
            f"`{name}` changes the captured `{tensors[0].text}` in place; a traced function must not change tensors: "
            f"use the result of `{name.rstrip('_')}`"
        )
    return lift(tracer, record(tracer, function, name, args, kwargs))


def _on_constants(tracer: Tracer, function: Any, args: Any, kwargs: Any) -> Any:
    """A call without values under trace: `torch.tensor(0.0)` is a constant, `torch.arange(16)` a table."""
    arguments, keywords = unwrapped_types(without_device(args)), unwrapped_types(without_device(kwargs))
    if (getattr(function, "__module__", None) or "torch").startswith("torch"):
        import torch

        # Whatever the default device is: constants have to be read.
        with torch.device("cpu"):
            result = function(*arguments, **keywords)
    else:
        result = function(*arguments, **keywords)
    if not is_array(result):
        return result
    if result.ndim == 0:
        return Proxy(tracer, const(result.item()))
    return lift(tracer, record(tracer, function, name_of(function), args, kwargs))


def spell(tracer: Tracer, name: str, spelled: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The function in operators of the IR; numbers among the arguments become constants."""

    def number(value: Any) -> Any:
        value = plain(value)
        if isinstance(value, bool | int | float) or is_array(value):
            return constant(tracer, value)
        return value

    arguments = [number(value) for value in unwrapped_types(tuple(args))]
    keywords = {key: number(value) for key, value in unwrapped_types(dict(kwargs)).items() if value is not DEVICE}
    try:
        return spelled(*arguments, **keywords)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        reason = str(error).rpartition("() ")[2]
        raise tracer.error(f"`{name}` with these arguments is not known here: {reason}") from None


def constant(tracer: Tracer, value: Any) -> Any:
    """A number as a constant under trace."""
    return Proxy(tracer, const(0)).lift(value)


def _spelled(function: Any, name: str, args: Any) -> Callable[..., Any] | None:
    if getattr(function, "__module__", "") == "math":
        return MATH.get(name) or FUNCTIONS.get(name)
    if name in ("tensor", "as_tensor", "asarray") and not isinstance(args[0], Proxy):
        return None
    if name in ("max", "min") and len(args) == 2 and (isinstance(args[1], Proxy) or not isinstance(args[0], Proxy)):
        return FUNCTIONS[f"{name}imum"]
    return FUNCTIONS.get(name) or METHODS.get(name)


def is_spelled(function: Any) -> bool:
    """Whether a library function has a spelling, or a reason why it has none."""
    name = name_of(function)
    return name in FUNCTIONS or name in METHODS or name in refusals.KNOWN or name == "embedding"


def unknown(tracer: Tracer, name: str, value: Proxy) -> Exception:
    """The error for a function that has no spelling."""
    if name in refusals.REDUCTIONS:
        return tracer.error(refusals.reduction(name, "score" in symbols(value.expr), show(value)))
    if name in refusals.REASONS:
        return tracer.error(f"`{name}`: {refusals.REASONS[name]}")
    if name.endswith("_") and not name.endswith("__"):
        return tracer.error(f"`{name}` works in place; use the result: x = x.{name.rstrip('_')}(...)")
    near = get_close_matches(name, [*FUNCTIONS, *METHODS], n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return tracer.error(
        f"`{name}` cannot be used on one query and one key{hint}; known are arithmetic, comparisons, torch.where and "
        "the pointwise functions of torch and math"
    )


# --- recording ---


def record(tracer: Tracer, function: Callable[..., Any], name: str, args: Any, kwargs: Any) -> Call:
    """The call as work that is repeated at every call of the kernel."""
    arguments = hosts(unwrapped_types(without_device(tuple(args))), f"`{name}`")
    keywords = hosts(unwrapped_types(without_device(dict(kwargs))), f"`{name}`")
    shown = [text_of(a) for a in arguments] + [f"{key}={text_of(a)}" for key, a in keywords.items()]
    if getattr(function, "is_attngen_method", False):
        text = f"{shown[0]}.{name}({', '.join(shown[1:])})"
    else:
        module = getattr(function, "__module__", None) or "torch"
        prefix = "" if module in ("builtins", "_operator") else "torch." if module.startswith("torch") else f"{module}."
        text = f"{prefix}{name}({', '.join(shown)})"
    base = next((node.name for node in nodes((arguments, keywords))), None)
    return Call(text, f"{base}_{name.strip('_')}" if base else name, function, arguments, keywords)


def lift(tracer: Tracer, node: Node) -> Any:
    """The result of recorded work as a value under trace."""
    from attngen.frontend.capture import capture

    return capture(tracer, tracer.value(node), node)


def hosts(tree: Any, what: str) -> Any:
    """Arguments with nodes in place of values under trace; refused where one depends on a query or a key."""
    if isinstance(tree, TensorProxy):
        return tree.recorded()
    if isinstance(tree, Proxy):
        if tree.host is not None:
            return tree.host
        if isinstance(tree.expr, Const):
            return tree.expr.value
        names = ", ".join(sorted(symbols(tree.expr))) or "inputs"
        raise tree.tracer.error(
            f"{what}: `{show(tree)}` depends on {names}, and work on tensors is done before the kernel runs; "
            "index the tensor with it instead"
        )
    if getattr(type(tree), "is_attngen_list", False):
        return [hosts(item, what) for item in tree]
    if type(tree) in (tuple, list):
        return type(tree)(hosts(item, what) for item in tree)
    if type(tree) is dict:
        return {key: hosts(item, what) for key, item in tree.items()}
    if type(tree) is slice:
        return slice(*(hosts(part, what) for part in (tree.start, tree.stop, tree.step)))
    return plain(tree)


def values(tree: Any) -> Iterator[Any]:
    """Every value under trace among arguments."""
    if isinstance(tree, Proxy | TensorProxy):
        yield tree
    elif isinstance(tree, tuple | list) or getattr(type(tree), "is_attngen_list", False):
        for item in tree:
            yield from values(item)
    elif isinstance(tree, dict):
        yield from values(tuple(tree.values()))
    elif isinstance(tree, slice):
        yield from values((tree.start, tree.stop, tree.step))


def tracer_of(tree: Any) -> Tracer:
    """The tracer of the first value under trace among arguments."""
    found: Tracer = next(values(tree)).tracer
    return found


def is_host(value: Proxy) -> bool:
    """Whether a number is known before the kernel runs."""
    return value.host is not None or isinstance(value.expr, Const)


def without_device(tree: Any) -> Any:
    """Arguments without the device of a value under trace, which it takes from the call."""
    if isinstance(tree, dict):
        return {key: value for key, value in tree.items() if value is not DEVICE}
    return tuple(value for value in tree if value is not DEVICE)


# --- methods and attributes ---


@cache
def method(name: str) -> Callable[..., Any]:
    """The function that calls the method `name` of its first argument."""

    def invoke(value: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(value, name)(*args, **kwargs)

    invoke.__name__ = name
    invoke.__module__ = "torch"
    invoke.is_attngen_method = True  # type: ignore[attr-defined]
    return invoke


def bound(value: Any, name: str) -> Callable[..., Any]:
    """`value.name` as something to call."""
    return lambda *args, **kwargs: dispatch(value.tracer, method(name), (value, *args), kwargs)


def attribute(value: Proxy, name: str) -> Any:
    """`value.name` of a number under trace."""
    if name in ATTRIBUTES:
        return ATTRIBUTES[name](value)
    if name in FUNCTIONS or name in METHODS or name in refusals.KNOWN or (name in ("max", "min")):
        return bound(value, name)
    if name.startswith("__"):
        raise AttributeError(name)
    if name.endswith("_") and name.rstrip("_") in FUNCTIONS:
        raise value.tracer.error(f"`.{name}()` works in place; write x = x.{name.rstrip('_')}(...)")
    near = get_close_matches(name, [*FUNCTIONS, *METHODS, *ATTRIBUTES], n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    error = value.tracer.error(f"`{show(value)}` has no {name!r}{hint}")
    raise TraceAttributeError(error.message, source=error.source)


def tensor_attribute(value: TensorProxy, name: str) -> Any:
    """`tensor.name` of a captured tensor: a method to record, or an attribute that is read at every call."""
    import torch

    if name.startswith("__"):
        raise AttributeError(name)
    found = getattr(torch.Tensor, name, None)
    if found is None:
        near = get_close_matches(name, dir(torch.Tensor), n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        error = value.tracer.error(f"the captured tensor `{value.text}` has no {name!r}{hint}")
        raise TraceAttributeError(error.message, source=error.source)
    if name in refusals.HOST:
        raise value.tracer.error(f"`{value.text}.{name}`: {refusals.HOST[name]}")
    if name == "device":
        return DEVICE
    if callable(found) and name not in ("data", "grad", "real", "imag"):
        return bound(value, name)
    node = value.recorded()
    return lift(value.tracer, Call(f"{node.text}.{name}", f"{node.name}_{name}", getattr, (node, name), {}))


def name_of(function: Any) -> str:
    """The plain name of a function: `exp` for torch.exp, torch.special.exp, aten::exp.default, Tensor.exp."""
    name = str(getattr(function, "__name__", type(function).__name__)).partition(".")[0]
    if name in ("and_", "or_", "not_") or name.startswith("__"):
        name = name.strip("_")
    return name.removeprefix("special_")
