"""What every operator means, on torch tensors of bool, int64 and float64: the semantics that printers must match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from attngen.ir.ops import RANK, Type

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Function = Callable[..., "Tensor"]


def dtype_of(type: Type) -> torch.dtype:
    """The torch dtype in which values of the type are computed."""
    import torch

    return {"bool": torch.bool, "int": torch.int64, "float": torch.float64}[type]


def apply(name: str, result: Type, types: Sequence[Type], args: Sequence[Tensor]) -> Tensor:
    """The operator on tensors of the given types; arguments are first brought to the type in which it computes."""
    own = _TYPED.get(name)
    if own is not None:
        working: Sequence[Type] = own(result, types)
    elif name in _COMPARISONS:
        widest = max(types, key=RANK.__getitem__)
        working = [widest] * len(args)
    else:
        working = [result] * len(args)
    cast = [a.to(dtype_of(t)) for a, t in zip(args, working, strict=True)]
    return _functions()[name](*cast)


_COMPARISONS = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})
_TYPED: dict[str, Callable[[Type, Sequence[Type]], Sequence[Type]]] = {
    "where": lambda result, types: ["bool", result, result],
    "to_float": lambda result, types: types,
    "to_int": lambda result, types: types,
    "to_bool": lambda result, types: types,
    "uniform": lambda result, types: ["int"],
}


def _floordiv(a: Tensor, b: Tensor) -> Tensor:
    import torch

    if a.is_floating_point():
        return torch.div(a, b, rounding_mode="floor")
    # Integers have no infinity: a zero divisor, legal where the key is absent, gives 0.
    zero = b == 0
    return torch.where(zero, 0, torch.div(a, torch.where(zero, 1, b), rounding_mode="floor"))


def _mod(a: Tensor, b: Tensor) -> Tensor:
    import torch

    if a.is_floating_point():
        return torch.remainder(a, b)
    zero = b == 0
    return torch.where(zero, 0, torch.remainder(a, torch.where(zero, 1, b)))


def _safe_div(a: Tensor, b: Tensor) -> Tensor:
    import torch

    zero = b == 0
    return torch.where(zero, 0.0, a / torch.where(zero, 1.0, b))


def _softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)) to the last digit: torch's own turns linear above 20."""
    import torch

    return torch.logaddexp(x, torch.zeros_like(x))


@cache
def _functions() -> dict[str, Function]:
    import torch

    same = [
        *(
            "add",
            "sub",
            "mul",
            "minimum",
            "maximum",
            "pow",
            "where",
            "neg",
            "abs",
            "sign",
            "lt",
            "le",
            "gt",
            "ge",
            "eq",
        ),
        *(
            "ne",
            "exp",
            "exp2",
            "expm1",
            "log",
            "log2",
            "log1p",
            "sqrt",
            "rsqrt",
            "tanh",
            "sin",
            "cos",
            "sigmoid",
            "erf",
        ),
        *("floor", "ceil", "round", "relu"),
    ]
    return {
        **{name: getattr(torch, name) for name in same},
        "truediv": torch.div,
        "floordiv": _floordiv,
        "mod": _mod,
        "safe_div": _safe_div,
        "softplus": _softplus,
        "and": torch.logical_and,
        "or": torch.logical_or,
        "xor": torch.logical_xor,
        "not": torch.logical_not,
        "shl": torch.bitwise_left_shift,
        "shr": torch.bitwise_right_shift,
        "bit_and": torch.bitwise_and,
        "bit_or": torch.bitwise_or,
        "bit_xor": torch.bitwise_xor,
        "bit_not": torch.bitwise_not,
        "to_float": lambda x: x.to(torch.float64),
        "to_int": lambda x: x.to(torch.int64),
        "to_bool": lambda x: x != 0,
        "dim_softmax": lambda x: torch.softmax(x, -1),
    }
