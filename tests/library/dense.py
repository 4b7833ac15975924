"""Library programs evaluated densely, and random calls of specs against the reference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attngen.frontend import Traced
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.reference import reference
from attngen.masks import Mask
from attngen.program import Program
from attngen.spec import Spec


def symbols(n_q: int, n_k: int, b: int = 1, h: int = 1, grid: tuple[int, ...] = ()) -> dict[str, Tensor]:
    """The symbols of all pairs, to broadcast over (b, h, n_q, n_k)."""
    q, kv = torch.arange(n_q)[:, None], torch.arange(n_k)
    found = {"q": q, "kv": kv, "b": torch.arange(b)[:, None, None, None], "h": torch.arange(h)[:, None, None]}
    found |= {name: torch.tensor(n) for name, n in (("n_q", n_q), ("n_k", n_k), ("n_h", h), ("n_b", b))}
    for axis, flat in (("q", q), ("kv", kv)):
        for i, size in reversed(list(enumerate(grid))):
            found[f"{axis}[{i}]"], flat = flat % size, flat // size
    return found


def inputs(traced: Traced) -> dict[str, Tensor]:
    """What the captured inputs hold now."""
    return {name: torch.as_tensor(binding.fetch()) for name, binding in traced.bindings.items()}


def dense(program: Program, n_q: int, n_k: int, b: int = 1, h: int = 1, **more: Tensor) -> Tensor:
    """The program at every pair, (b, h, n_q, n_k)."""
    env = Environment({**symbols(n_q, n_k, b, h, program.grid), **more}, inputs(program.traced))
    return evaluate(program.traced.expr, env).expand(b, h, n_q, n_k)


def rows(mask: Mask, n_q: int, n_k: int) -> list[list[int]]:
    """The keys that each row sees."""
    return [[j for j in range(n_k) if seen[j]] for seen in dense(mask, n_q, n_k)[0, 0].tolist()]


def qkv(
    b: int = 2, h: int = 3, n_q: int = 7, n_k: int = 9, d: int = 8, dv: int = 5, seed: int = 0
) -> dict[str, Tensor]:
    """Random q, k and v in float64."""
    torch.manual_seed(seed)
    shapes = {"q": (b, h, n_q, d), "k": (b, h, n_k, d), "v": (b, h, n_k, dv)}
    return {name: torch.randn(*shape, dtype=torch.float64) for name, shape in shapes.items()}


def run(spec: Spec, tensors: dict[str, Tensor], return_lse: bool = False, **given: Any) -> Any:
    """The reference on q, k, v, what the spec captured and what is given."""
    captured = {name: binding.fetch() for name, binding in spec.bindings.items()}
    return reference(spec.ir, {**tensors, **captured, **given}, return_lse)  # type: ignore[call-overload]


def scores(tensors: dict[str, Tensor]) -> Tensor:
    """q . k / sqrt(d)."""
    q, k = tensors["q"], tensors["k"]
    return q @ k.mT / q.shape[-1] ** 0.5
