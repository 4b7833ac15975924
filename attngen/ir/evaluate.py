"""Evaluates expressions with torch, by broadcasting, in bool, int64 and float64.

An index that leaves its input is an error only where the element counts: under the guard, and in the branch that a
`where`, `and` or `or` selects. Elsewhere it reads the nearest element.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attngen.errors import BoundsError, SpecError
from attngen.ir.evaluate_ops import apply, dtype_of
from attngen.ir.expr import Const, Expr, Load, Op, Sym, postorder
from attngen.ir.philox import uniform
from attngen.ir.text_expr import expr_text

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Environment:
    """What names stand for: `symbols` by symbol, `inputs` by input (a tensor of the rank of its loads).

    `guard` says which elements count. Where it is false, float leaves are replaced by 1, so that nothing which happens
    there reaches a gradient, and indices may leave their tensor.
    """

    symbols: Mapping[str, Tensor]
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    guard: Tensor | None = None


def evaluate(expr: Expr, env: Environment) -> Tensor:
    """The value of the expression, broadcast over its symbols; each distinct node is computed once.

    Raises `SpecError` for a name that the environment does not hold and `BoundsError` for an index out of range.
    """
    values: dict[int, Tensor] = {}
    strays: dict[int, Tensor] = {}
    for node in postorder(expr):
        values[id(node)] = _value(node, env, values)
        stray = _stray(node, env, values, strays)
        if stray is not None:
            strays[id(node)] = stray
    if id(expr) in strays:
        _check(expr, env, values, strays)
    return values[id(expr)]


def _value(node: Expr, env: Environment, values: dict[int, Tensor]) -> Tensor:
    import torch

    match node:
        case Const(value=value):
            return torch.tensor(value, dtype=dtype_of(node.type))
        case Sym(name=name):
            if name not in env.symbols:
                raise SpecError(f"symbol {name!r} has no value here", source=node.source)
            return _leaf(env.symbols[name].to(dtype_of(node.type)), env)
        case Load(tensor=name, indices=indices):
            if name not in env.inputs:
                raise SpecError(f"input {name!r} has no value here", source=node.source)
            tensor = env.inputs[name].to(dtype_of(node.type))
            if tensor.dim() != len(indices):
                raise SpecError(f"input {name!r} has rank {tensor.dim()}, read with {len(indices)}", source=node.source)
            if not indices:
                return _leaf(tensor, env)
            where = torch.broadcast_tensors(*(values[id(i)] for i in indices))  # type: ignore[no-untyped-call]
            if 0 in tensor.shape:
                return torch.zeros(where[0].shape, dtype=tensor.dtype)
            bounded = tuple(i.clamp(0, size - 1) for i, size in zip(where, tensor.shape, strict=True))
            return _leaf(tensor[bounded], env)
        case Op(name="uniform", args=(seed,)):
            b, h, q, kv = (env.symbols[name] for name in ("b", "h", "q", "kv"))
            return uniform(values[id(seed)].to(torch.int64), b, h, q, kv)
        case Op(name="uniform_at", args=args):
            return uniform(*(values[id(a)].to(torch.int64) for a in args))
        case Op(name=name, args=args):
            return apply(name, node.type, [a.type for a in args], [values[id(a)] for a in args])
        case _:
            raise TypeError(f"not an expression node: {node!r}")


def _leaf(value: Tensor, env: Environment) -> Tensor:
    """The value where the guard holds. A gradient that is NaN elsewhere ends here as 0."""
    import torch

    if env.guard is None or not value.requires_grad:
        return value
    return torch.where(env.guard, value, 1.0)


def _outside(node: Load, env: Environment, values: dict[int, Tensor]) -> Tensor | None:
    """Where an index of the load leaves its tensor; None: nowhere."""
    found: Tensor | None = None
    for index, size in zip(node.indices, env.inputs[node.tensor].shape, strict=True):
        at = values[id(index)]
        bad = (at < 0) | (at >= size)
        if bool(bad.any()):
            found = bad if found is None else found | bad
    return found


def _stray(node: Expr, env: Environment, values: dict[int, Tensor], strays: dict[int, Tensor]) -> Tensor | None:
    """Where the value depends on an index that leaves its tensor."""
    found = _outside(node, env, values) if isinstance(node, Load) else None
    if found is None and not any(id(c) in strays for c in node.children):
        return None
    match node:
        case Op(name="where", args=(condition, yes, no)):
            chosen = values[id(condition)]
            parts = [strays.get(id(condition)), _both(strays.get(id(yes)), chosen), _both(strays.get(id(no)), ~chosen)]
        case Op(name="and", args=(left, right)):
            parts = [strays.get(id(left)), _both(strays.get(id(right)), values[id(left)])]
        case Op(name="or", args=(left, right)):
            parts = [strays.get(id(left)), _both(strays.get(id(right)), ~values[id(left)])]
        case _:
            parts = [found, *(strays.get(id(c)) for c in node.children)]
    for part in parts:
        found = part if found is None else found if part is None else found | part
    return found


def _both(stray: Tensor | None, chosen: Tensor) -> Tensor | None:
    return None if stray is None else stray & chosen


def _check(expr: Expr, env: Environment, values: dict[int, Tensor], strays: dict[int, Tensor]) -> None:
    """Raises `BoundsError` naming the load, if a stray index counts."""
    stray = strays[id(expr)]
    # A mask is read only where it says yes.
    counts = stray & env.guard if env.guard is not None else stray
    if expr.type == "bool":
        counts = counts & values[id(expr)]
    if not bool(counts.any()):
        return
    for node in postorder(expr):
        if not isinstance(node, Load) or _outside(node, env, values) is None:
            continue
        for position, (index, size) in enumerate(zip(node.indices, env.inputs[node.tensor].shape, strict=True)):
            at = values[id(index)]
            low, high = int(at.min()), int(at.max())
            if low < 0 or high >= size:
                raise BoundsError(
                    f"index {position} of {node.tensor!r}, `{expr_text(index)}`, takes values {low} to {high}; "
                    f"that dimension has {size} entries, 0 to {size - 1}",
                    source=index.source or node.source,
                )
