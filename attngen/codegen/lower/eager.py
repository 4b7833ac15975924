"""Feature maps as torch runs them: on whole tensors, before the loop over keys, differentiable by autograd.

Written apart from the evaluator of the reference, which checks it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from attngen.ir.expr import Const, Expr, Load, Op, Sym, postorder

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Function = Callable[..., Any]

NAMED = (
    *("add", "sub", "mul", "minimum", "maximum", "pow", "where", "neg", "abs", "sign", "lt", "le", "gt", "ge"),
    *("eq", "ne", "exp", "exp2", "expm1", "log", "log2", "log1p", "sqrt", "rsqrt", "tanh", "sin", "cos", "sigmoid"),
    *("erf", "floor", "ceil", "round", "relu", "logical_and", "logical_or", "logical_not"),
)
"""Operators that torch has under the same name."""


def refusal(feature: Expr) -> str | None:
    """None, or what in a feature map torch does not run here."""
    for node in postorder(feature):
        if isinstance(node, Load) and node.indices:
            return f"a feature map that reads elements of {node.tensor}"
        if isinstance(node, Op) and node.name not in _functions():
            return f"{node.name} in a feature map"
    return None


def featured(x: Tensor, feature: Expr, numbers: Mapping[str, Any]) -> Tensor:
    """feature(x) in the dtype of x, rounded once. Sums and exponentials of half precision run in float32."""
    import torch

    single = isinstance(feature, Op) and all(isinstance(a, Sym) for a in feature.args)
    # A single operator of torch rounds once by itself.
    wide = x if single or x.dtype == torch.float64 else x.float()
    values: dict[int, Any] = {}
    for node in postorder(feature):
        match node:
            case Const(value=value):
                values[id(node)] = torch.tensor(value, dtype=None if node.type == "bool" else wide.dtype)
            case Sym():
                values[id(node)] = wide
            case Load(tensor=name):
                values[id(node)] = torch.tensor(numbers[name], dtype=wide.dtype)
            case Op(name=name, args=args):
                values[id(node)] = _functions()[name](*_counted(node, [values[id(a)] for a in args], wide.dtype))
    found: Tensor = values[id(feature)]
    return found.to(x.dtype).expand(x.shape)


def _counted(node: Op, values: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """The arguments of an operator; bools are numbers to arithmetic, where torch would add two of them to a bool."""
    if node.type == "bool":
        return values
    chosen = values[:1] if node.name == "where" else []
    return [*chosen, *(t if t.is_floating_point() else t.to(dtype) for t in values[len(chosen) :])]


def holds(table: Tensor, condition: Expr) -> Tensor:
    """Where a condition on x, an entry of the table, holds."""
    import torch

    bounds = torch.iinfo(table.dtype)
    numbers = [node.value for node in postorder(condition) if isinstance(node, Const)]
    if any(not bounds.min <= number <= bounds.max for number in numbers):
        table = table.long()  # Beside a tensor of narrow integers torch wraps a number that they do not hold.
    values: dict[int, Any] = {}
    for node in postorder(condition):
        match node:
            case Const(value=value):
                values[id(node)] = torch.tensor(value)
            case Sym():
                values[id(node)] = table
            case Op(name=name, args=args):
                values[id(node)] = _functions()[name](*(values[id(a)] for a in args))
    found: Tensor = values[id(condition)]
    return found


@cache
def _functions() -> dict[str, Function]:
    import torch
    from torch.nn.functional import softplus

    return {
        **{name.removeprefix("logical_"): getattr(torch, name) for name in NAMED},
        "truediv": torch.div,
        "safe_div": lambda a, b: torch.where(b == 0, 0.0, a / torch.where(b == 0, 1.0, b)),
        "softplus": softplus,
        "to_float": lambda x: x,
        "dim_softmax": lambda x: torch.softmax(x, -1),
    }
