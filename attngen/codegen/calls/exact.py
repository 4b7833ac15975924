"""Exact evaluation of small index expressions, where interval analysis cannot decide."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from attngen.codegen.calls.boxes import Box
from attngen.ir.expr import Expr, symbols
from attngen.ir.nodes import Grid, Spec

STATISTICS = ("s", "m", "acc", "mass", "count", "vsum", "before", *(f"{x}[{i}]" for i in range(4) for x in "mr"))
BLOCK = 1 << 16
"""Pairs (query, key) that are evaluated at once, which bounds the memory."""


def evaluate_everywhere(
    exprs: Sequence[Expr],
    where: Expr | None,
    box: Box,
    spec: Spec,
) -> None:
    """Evaluates the expressions for every pair of the box that the mask shows; raises `BoundsError` for a bad index.

    Tensors that are not among the values count by their extents alone.
    """
    import torch

    from attngen.ir.evaluate import Environment, evaluate

    sizes = box.sizes
    sizes_of = {"n_q": sizes.n_q, "n_k": sizes.n_k, "n_b": sizes.n_b, "n_h": sizes.n_h}
    # Scores and sums are any number: they only decide indices through a cast. An index made of the number of visible
    # keys is never looked at here.
    sizes_of["n_visible"] = 0
    fixed = {name: torch.tensor(size) for name, size in sizes_of.items()}
    fixed |= {name: torch.zeros(()) for name in (*(f"dot[{i}]" for i in range(8)), *STATISTICS)}
    inputs = {name: torch.zeros(()).expand(shape) for name, shape in box.extents.items()}
    inputs |= {n: v if isinstance(v, torch.Tensor) else torch.tensor(v) for n, v in box.values.items()}
    used = symbols(*exprs, where)
    dims = spec.space.dims if isinstance(spec.space, Grid) else ()
    kv = torch.arange(sizes.n_k)[None, :]
    rows = max(1, BLOCK // max(1, sizes.n_k))
    batches = range(sizes.n_b if "b" in used else 1) if box.b is None else (box.b,)
    for b, h, first in product(batches, range(sizes.n_h if "h" in used else 1), range(0, sizes.n_q, rows)):
        q = torch.arange(first, min(first + rows, sizes.n_q))[:, None]
        here = fixed | {"dim": torch.tensor(0)} | {"b": torch.tensor(b), "h": torch.tensor(h), "q": q, "kv": kv}
        here |= _coordinates("q", q, dims) | _coordinates("kv", kv, dims)
        guard = None if where is None else evaluate(where, Environment(here, inputs)).expand(len(q), sizes.n_k)
        for expr in exprs:
            evaluate(expr, Environment(here, inputs, guard))


def _coordinates(name: str, flat: Any, dims: tuple[int, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for i in reversed(range(len(dims))):
        found[f"{name}[{i}]"], flat = flat % dims[i], flat // dims[i]
    return found
