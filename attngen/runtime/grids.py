"""Tensors that lie on the grid of a spec, such as (B, X, Y, H, D): views with one axis of tokens, and back."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from attngen.errors import InputError
from attngen.runtime.call import AXES

if TYPE_CHECKING:
    from torch import Tensor

    from attngen.ir.nodes import Layout

Dims = tuple[int, ...]


def on_grid(dims: Dims, *tensors: Any) -> bool:
    """Whether any of the tensors has an axis for each dimension of the grid, in place of one for tokens."""
    return any(isinstance(t, torch.Tensor) and t.dim() == 3 + len(dims) for t in tensors)


def flattened(dims: Dims, layout: Layout, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The tensors with one axis of tokens, in the same memory: each row of the grid begins where the last one ends."""
    return _flat(dims, layout, "q", q), _flat(dims, layout, "k", k), _flat(dims, layout, "v", v)


def restored(dims: Dims, layout: Layout, results: Any) -> Any:
    """The result, or the result and the log-sum-exp, on the grid again; a log-sum-exp is (B, H, *dims)."""
    if isinstance(results, tuple):
        return restored(dims, layout, results[0]), results[1].unflatten(2, dims)
    return results.unflatten(AXES[layout][2], dims)


def _flat(dims: Dims, layout: Layout, name: str, tensor: Any) -> Tensor:
    first = AXES[layout][2]
    last = first + len(dims)
    given, found = tuple(tensor.shape), tensor.shape[first:last]
    if len(given) != 3 + len(dims) or tuple(found) != dims:
        axes = [axis.upper() if axis != "n" else ", ".join(map(str, dims)) for axis in layout]
        raise InputError(f"{name}: got shape {given}; on the grid, layout {layout!r} is ({', '.join(axes)})")
    steps = [(step, size) for step, size in zip(tensor.stride()[first:last], dims, strict=True) if size > 1]
    if any(step != size * below for (step, _), (below, size) in pairwise(steps)):
        raise InputError(
            f"{name}: rows of the grid do not lie one after the other in memory (strides {tensor.stride()}), and no "
            f"kernel copies its operands; give {name}.contiguous()"
        )
    return tensor.flatten(first, last - 1)  # type: ignore[no-any-return]
