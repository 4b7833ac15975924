"""Tensor methods and attributes on one number: casts, constants of the same kind, shapes without dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attngen.frontend.scalar import Proxy, show
from attngen.ir.ops import Type


class _Device:
    """The device of a value under trace: that of the call."""

    type = "device of the call"

    def __repr__(self) -> str:
        return "<device of the call>"


DEVICE = _Device()


def type_of(x: Proxy, dtype: Any) -> Type:
    """The type in expressions of a torch or Python dtype. float16, int8 and so on are float and int: nothing wraps."""
    import torch

    if dtype in (bool, torch.bool):
        return "bool"
    if dtype is float or (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        return "float"
    if dtype is int or (isinstance(dtype, torch.dtype) and not dtype.is_complex):
        return "int"
    raise x.tracer.error(f"`{show(x)}` cannot become {dtype!r}; allowed: bool, integer and floating-point dtypes")


def dtype_of(x: Proxy) -> Any:
    """The torch dtype of a value: scores are float32 in kernels, positions int64."""
    import torch

    return {"bool": torch.bool, "int": torch.int64, "float": torch.float32}[x.expr.type]


def to(x: Proxy, *args: Any, dtype: Any = None, **options: Any) -> Any:
    """`x.to(dtype)`, `x.to(other)`, `x.to(device, dtype)`; devices are ignored."""
    import torch

    for arg in (*args, dtype):
        if isinstance(arg, Proxy) and not isinstance(getattr(arg.expr, "value", None), bool):
            return x.cast(arg.expr.type)
        if isinstance(arg, torch.dtype) or arg in (bool, int, float):
            return x.cast(type_of(x, arg))
    return x


def _cast(type: str) -> Callable[..., Any]:
    return lambda x, *args, **options: x.cast(type)


def _same(x: Proxy, *args: Any, **options: Any) -> Proxy:
    return x


def _shapeless(x: Proxy, *shape: Any, **options: Any) -> Proxy:
    """view, reshape, expand to no dimensions."""
    if shape not in ((), ((),), ([],)):
        raise x.tracer.error(f"`{show(x)}` is one number, without dimensions; it takes no shape but ()")
    return x


def _new(value: Any) -> Callable[..., Any]:
    def made(x: Proxy, size: Any = (), *args: Any, dtype: Any = None, **options: Any) -> Any:
        _shapeless(x, tuple(size)) if isinstance(size, tuple | list) else _shapeless(x, size, *args)
        constant = x.lift(value)
        assert constant is not None
        return constant.cast(x.expr.type) if dtype is None else to(constant, dtype)

    return made


def _new_full(x: Proxy, size: Any, fill_value: Any, dtype: Any = None, **options: Any) -> Any:
    _shapeless(x, tuple(size))
    return fill_value.cast(x.expr.type) if dtype is None else to(fill_value, dtype)


def new_tensor(x: Proxy, data: Any, dtype: Any = None, **options: Any) -> Any:
    """`score.new_tensor(0.5)`, `torch.tensor(x)`: a number."""
    if not isinstance(data, Proxy):
        raise x.tracer.error("values are single numbers; capture a tensor of several, or make it with torch.tensor")
    return data if dtype is None else to(data, dtype)


def tensor(data: Proxy, dtype: Any = None, **options: Any) -> Any:
    """`torch.tensor(x)` of a number under trace."""
    return new_tensor(data, data, dtype)


METHODS: dict[str, Callable[..., Any]] = {
    "to": to,
    "type": lambda x, dtype=None, **options: to(x, dtype),
    "type_as": to,
    **{name: _cast("float") for name in ("float", "double", "half", "bfloat16")},
    **{name: _cast("int") for name in ("int", "long", "short", "char", "byte")},
    "bool": _cast("bool"),
    **dict.fromkeys(["item", "clone", "contiguous", "squeeze", "cpu", "cuda"], _same),
    **dict.fromkeys(("view", "reshape", "expand", "broadcast_to"), _shapeless),
    "new_tensor": new_tensor,
    "new_full": _new_full,
    "new_zeros": _new(0),
    "new_ones": _new(1),
    **dict.fromkeys(("tensor", "as_tensor", "asarray", "scalar_tensor"), tensor),
    "dim": lambda x: 0,
    "ndimension": lambda x: 0,
    "size": lambda x: (),
    "numel": lambda x: 1,
    "nelement": lambda x: 1,
    "is_floating_point": lambda x: x.expr.type == "float",
    "is_tensor": lambda x: True,
}

ATTRIBUTES: dict[str, Callable[[Proxy], Any]] = {
    "shape": lambda x: (),
    "ndim": lambda x: 0,
    "dtype": dtype_of,
    "device": lambda x: DEVICE,
    "T": lambda x: x,
    "mT": lambda x: x,
    "real": lambda x: x,
    "requires_grad": lambda x: False,
    "is_cuda": lambda x: False,
}
