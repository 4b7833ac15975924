"""Exact evaluation of small index expressions, where interval analysis cannot decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attngen.codegen.analysis import Sizes
from attngen.ir.expr import Expr, symbols
from attngen.ir.nodes import Grid, Spec


def evaluate_everywhere(
    exprs: Sequence[Expr],
    where: Expr | None,
    sizes: Sizes,
    spec: Spec,
    extents: Mapping[str, tuple[int, ...]],
    values: Mapping[str, Any],
) -> None:
    """Evaluates the expressions for every query and key that the mask shows; raises `BoundsError` for a bad index.

    Tensors that are not among the values count by their extents alone.
    """
    import torch

    from attngen.ir.evaluate import Environment, evaluate

    q, kv = torch.arange(sizes.n_q)[:, None], torch.arange(sizes.n_k)[None, :]
    known: dict[str, Any] = {"q": q, "kv": kv, "n_q": sizes.n_q, "n_k": sizes.n_k, "n_b": sizes.n_b, "n_h": sizes.n_h}
    if isinstance(spec.space, Grid):
        known |= _coordinates("q", q, spec.space.dims) | _coordinates("kv", kv, spec.space.dims)
    # The score itself is any number: it only decides indices through a cast, which small specs do not have.
    known |= {f"dot[{i}]": torch.zeros(()) for i in range(8)}
    inputs = {name: torch.zeros(()).expand(shape) for name, shape in extents.items()}
    inputs |= {n: v if isinstance(v, torch.Tensor) else torch.tensor(v) for n, v in values.items()}
    used = symbols(*exprs, where)
    for b in range(sizes.n_b if "b" in used else 1):
        for h in range(sizes.n_h if "h" in used else 1):
            here = {
                n: v if isinstance(v, torch.Tensor) else torch.tensor(v) for n, v in {**known, "b": b, "h": h}.items()
            }
            everywhere = Environment(here, inputs)
            guard = None if where is None else evaluate(where, everywhere).expand(sizes.n_q, sizes.n_k)
            for expr in exprs:
                evaluate(expr, Environment(here, inputs, guard))


def _coordinates(name: str, flat: Any, dims: tuple[int, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for i in reversed(range(len(dims))):
        found[f"{name}[{i}]"], flat = flat % dims[i], flat // dims[i]
    return found
