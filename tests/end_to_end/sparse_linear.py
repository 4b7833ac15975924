"""Sparse-linear attention written out densely, and specs and tables for its tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import attngen
from attngen import mechanisms
from attngen.ir.expr import Expr, op, sym

QB, KB, D, DV = 24, 40, 8, 13
SQUARED: Expr = op("maximum", op("mul", sym("x"), sym("x")), 0.25)
FEATURES: dict[str, Any] = {
    "softmax": lambda x: x.softmax(-1),
    "elu": lambda x: torch.nn.functional.elu(x) + 1,
    "relu": torch.relu,
    "squared": lambda x: (x * x).clamp_min(0.25),
}


def spec_of(domain: str = "marginal", feature: str = "softmax", topk: Any = "table", **options: Any) -> attngen.Spec:
    options = {"query_block": QB, "key_block": KB, **options}
    chosen: Any = SQUARED if feature == "squared" else feature
    return mechanisms.sparse_linear(topk, linear_domain=domain, feature_map=chosen, **options)  # type: ignore[arg-type]


def table_of(b: int, h: int, n_q: int, n_k: int, low: int = -1, high: int = 1, qb: int = QB, kb: int = KB) -> Tensor:
    """Random classes of blocks."""
    generator = torch.Generator().manual_seed(n_q + n_k)
    return torch.randint(low, high + 1, (b, h, -(-n_q // qb), -(-n_k // kb)), generator=generator, dtype=torch.int8)


def spread(table: Tensor, n_q: int, n_k: int, qb: int = QB, kb: int = KB) -> Tensor:
    """The class of every pair."""
    return table.repeat_interleave(qb, 2).repeat_interleave(kb, 3)[:, :, :n_q, :n_k]


def dense(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    classes: Tensor,
    domain: str = "marginal",
    feature: str = "softmax",
    projection: Tensor | None = None,
    eps: float = 0.0,
) -> Tensor:
    """Softmax attention over pairs of class 1, plus the projection of linear attention over those of the domain."""
    q, k, v = (t.double() for t in (q, k, v))
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    scores = torch.where(classes == 1, q @ k.mT / q.shape[-1] ** 0.5, -torch.inf)
    top = scores.amax(-1, keepdim=True).clamp_min(-1e30).detach()
    weights = torch.exp(scores - top)
    sparse = weights @ v / weights.sum(-1, keepdim=True).clamp_min(1e-300)
    inside = {"marginal": classes == 0, "complement": classes != 1, "all": classes < 99}[domain]
    phi = FEATURES[feature]
    weights = torch.where(inside, phi(q) @ phi(k).mT, 0.0)
    mass = weights.sum(-1, keepdim=True) + eps
    linear = weights @ v / torch.where(mass == 0, 1.0, mass)
    return sparse + (linear if projection is None else linear @ projection.double())
