"""What a captured value becomes while a function is traced."""

from __future__ import annotations

import enum
import functools
import math
import sys
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from attngen.frontend.clones import Followed, LibraryFunction, follow
from attngen.frontend.objects import Captured, CapturedDict, CapturedList, CapturedModule, CapturedObject
from attngen.frontend.paths import Call, Direct, Node, leaves
from attngen.frontend.python import REPLACED
from attngen.frontend.scalar import Proxy
from attngen.frontend.static import StaticBool, StaticFloat, StaticInt, plain
from attngen.frontend.tensor import TensorProxy
from attngen.frontend.tracer import Tracer, is_array
from attngen.ir.expr import const

# pytest puts calls of its own into the asserts of tests.
LIBRARIES = (sys.stdlib_module_names | {"torch", "numpy", "attngen", "pytest", "_pytest"}) - {"__main__"}
VALUES = (str, bytes, type(None), type(Ellipsis), range, slice, set, frozenset, complex, enum.Enum,
          StaticInt, StaticFloat, StaticBool)  # fmt: skip


def capture(tracer: Tracer, value: Any, node: Node) -> Any:
    """The stand-in for a value that `node` reads: a number, a tensor, a container, an object, or the value itself."""
    if isinstance(value, Proxy | TensorProxy | Captured | Followed | LibraryFunction):
        return value
    if is_array(value):
        return _array(tracer, value, node)
    if isinstance(value, VALUES):
        tracer.guard(node, type(value)(value) if isinstance(value, set) else value)
        return plain(value)
    if _is_number(value):
        if isinstance(value, float) and not math.isfinite(value):
            # -inf says "absent" to the analysis, so it is a constant.
            tracer.guard(node, value, "equal" if value == value else "type")
            return Proxy(tracer, const(float(value)))
        return Proxy(tracer, tracer.load(node), node)
    if isinstance(value, list | tuple):
        tracer.guard(node, len(value), "length")
        if isinstance(node, Call):
            return [CapturedList(tracer, value, node)[i] for i in range(len(value))]
        return CapturedList(tracer, value, node)
    if isinstance(value, dict):
        tracer.guard(node, len(value), "length")
        return CapturedDict(tracer, value, node)
    if isinstance(value, ModuleType):
        return CapturedModule(tracer, value, node, _is_library(value.__name__))
    return _other(tracer, value, node)


def _array(tracer: Tracer, value: Any, node: Node) -> Any:
    if not hasattr(value, "requires_grad"):
        import torch

        node = Call(node.text, node.name, torch.as_tensor, (node,), {})
        value = tracer.value(node)
    if value.ndim:
        return TensorProxy(tracer, node)
    if isinstance(node, Call) and not list(leaves(node)):
        return Proxy(tracer, const(value.item()))
    return Proxy(tracer, tracer.load(node), node)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool | int | float) or type(value).__name__ in ("SymInt", "SymFloat", "SymBool"):
        return True
    return getattr(type(value), "__module__", "") == "numpy" and hasattr(value, "item")


def _other(tracer: Tracer, value: Any, node: Node) -> Any:
    if id(value) in REPLACED:
        return REPLACED[id(value)]
    if isinstance(value, type):
        _refuse_gradient_modes(tracer, value)
        home = getattr(value, "__module__", "")
        plain_class = _is_library(home) or issubclass(value, enum.Enum | BaseException)
        return value if plain_class else CapturedObject(tracer, value, node)
    if is_intrinsic(value):
        return value
    if isinstance(value, FunctionType):
        if not isinstance(node, Direct):
            tracer.guard(node, value, "same")
        return library(tracer, value) if _is_public(value) else follow(tracer, value, node)
    if isinstance(value, MethodType | functools.partial):
        return follow(tracer, value, node)
    if isinstance(value, BuiltinFunctionType) or _of_library(value):
        return library(tracer, value)
    if not isinstance(node, Direct):
        tracer.guard(node, type(value), "type")
    return CapturedObject(tracer, value, node)


def library(tracer: Tracer, value: Any) -> Any:
    """What a library offers: functions that are understood; constants and types as they are."""
    if isinstance(value, ModuleType):
        return CapturedModule(tracer, value, Direct(value.__name__, value.__name__, value), True)
    if id(value) in REPLACED:
        return REPLACED[id(value)]
    if isinstance(value, type):
        _refuse_gradient_modes(tracer, value)
    elif callable(value) and not is_intrinsic(value):
        return LibraryFunction(tracer, value)
    return value


def _refuse_gradient_modes(tracer: Tracer, value: type) -> None:
    if value.__module__ == "torch.autograd.grad_mode":
        raise tracer.error(f"torch.{value.__name__}: a score has no stop-gradient; detach the captured tensors instead")


def is_intrinsic(value: Any) -> bool:
    """Functions of attngen that know values under trace."""
    return getattr(value, "__attngen_intrinsic__", False) is True


def _is_library(module: str) -> bool:
    return module.partition(".")[0] in LIBRARIES


def _is_public(function: Callable[..., Any]) -> bool:
    """A function that a library module offers under its name; closures made by library functions are not."""
    module = getattr(function, "__module__", None) or ""
    if module.partition(".")[0] == "attngen" or not _is_library(module):
        return False
    return getattr(sys.modules.get(module), getattr(function, "__name__", ""), None) is function


def _of_library(value: Any) -> bool:
    """C functions, ufuncs, torch operators, dtypes, devices: what a library has that is not an object with a state."""
    home = getattr(type(value), "__module__", "") or ""
    if home.startswith(("torch.nn", "attngen")) or type(value).__name__ == "_lru_cache_wrapper":
        return False
    return _is_library(home) and (callable(value) or home.startswith("torch"))
