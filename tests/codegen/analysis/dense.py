"""Brute force: expressions evaluated element by element in numpy, independently of the analysis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from attngen.codegen.analysis import Sizes
from attngen.ir.expr import Const, Expr, Load, Op, Sym
from attngen.ir.nodes import Grid, Sequence, Space

SEQUENCE = Sequence()
BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "floordiv": np.floor_divide, "mod": np.mod,
    "minimum": np.minimum, "maximum": np.maximum, "truediv": np.true_divide,
    "shl": np.left_shift, "shr": np.right_shift,
    "bit_and": np.bitwise_and, "bit_or": np.bitwise_or, "bit_xor": np.bitwise_xor, "pow": np.power,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
    "and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor,
}  # fmt: skip
UNARY = {
    "neg": np.negative, "abs": np.abs, "sign": np.sign, "relu": lambda x: np.maximum(x, 0), "not": np.logical_not,
    "bit_not": np.invert, "exp": np.exp, "sqrt": np.sqrt, "log": np.log, "tanh": np.tanh,
    "floor": np.floor, "ceil": np.ceil,
    "round": np.rint, "rsqrt": lambda x: 1 / np.sqrt(x), "sin": np.sin, "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}  # fmt: skip


def evaluate(e: Expr, symbols: Mapping[str, Any], arrays: Mapping[str, Any], real: type = np.float64) -> Any:
    """The value of an expression for arrays of symbols; indices out of range are clipped, as a mask never has them."""
    memo: dict[int, Any] = {}

    def walk(e: Expr) -> Any:
        if id(e) not in memo:
            memo[id(e)] = typed(e, node(e))
        return memo[id(e)]

    def typed(e: Expr, value: Any) -> Any:
        return np.asarray(value).astype({"bool": bool, "int": np.int64, "float": real}[e.type])

    def node(e: Expr) -> Any:
        match e:
            case Const(value=value):
                return value
            case Sym(name=name):
                return symbols[name]
            case Load(tensor=tensor, indices=indices):
                array = np.asarray(arrays[tensor])
                return array[tuple(np.clip(walk(i), 0, n - 1) for i, n in zip(indices, array.shape, strict=True))]
            case Op(name="where", args=(c, a, b)):
                return np.where(walk(c), typed(e, walk(a)), typed(e, walk(b)))
            case Op(name="to_int" | "to_float" | "to_bool", args=(a,)):
                return np.trunc(walk(a)) if a.type == "float" and e.type == "int" else walk(a)
            case Op(name=name, args=(a, b)):
                x, y = walk(a), walk(b)
                kind = real if "float" in (a.type, b.type) or name == "truediv" else bool
                if name not in ("and", "or", "xor"):
                    kind = kind if kind is real or (a.type == b.type == "bool" and name in ("eq", "ne")) else np.int64
                return BINARY[name](x.astype(kind), y.astype(kind))
            case Op(name=name, args=(a,)):
                x = walk(a)
                return UNARY[name](x.astype(np.int64) if a.type == "bool" and name != "not" else x)
            case _:
                raise AssertionError(e)

    with np.errstate(all="ignore"):
        return walk(e)


def positions(space: Space, sizes: Sizes) -> dict[str, Any]:
    """Every symbol of a mask as an array that broadcasts to (b, h, q, kv)."""
    result: dict[str, Any] = {
        "b": np.arange(sizes.n_b).reshape(-1, 1, 1, 1),
        "h": np.arange(sizes.n_h).reshape(-1, 1, 1),
        "q": np.arange(sizes.n_q).reshape(-1, 1),
        "kv": np.arange(sizes.n_k),
        "n_q": sizes.n_q, "n_k": sizes.n_k, "n_b": sizes.n_b, "n_h": sizes.n_h,
    }  # fmt: skip
    if isinstance(space, Grid):
        for name in ("q", "kv"):
            rest = result[name]
            for i in reversed(range(len(space.dims))):
                result[f"{name}[{i}]"] = rest % space.dims[i]
                rest = rest // space.dims[i]
    return result


def visible(
    mask: Expr, sizes: Sizes, arrays: Mapping[str, Any], space: Space = SEQUENCE, real: type = np.float64
) -> Any:
    """The mask as a bool array (b, h, q, kv)."""
    found = evaluate(mask, positions(space, sizes), arrays, real)
    return np.broadcast_to(found, (sizes.n_b, sizes.n_h, sizes.n_q, sizes.n_k))


def tile_classes(dense: Any, tile_q: int, tile_k: int) -> tuple[Any, Any]:
    """(any, all) of a bool array (..., q, kv) over tiles: arrays (..., query tiles, key tiles)."""
    q, k = np.arange(0, dense.shape[-2], tile_q), np.arange(0, dense.shape[-1], tile_k)
    some = np.logical_or.reduceat(np.logical_or.reduceat(dense, q, axis=-2), k, axis=-1)
    return some, np.logical_and.reduceat(np.logical_and.reduceat(dense, q, axis=-2), k, axis=-1)
