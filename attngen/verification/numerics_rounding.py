"""The biased-rounding experiment: rows with tied maxima in bf16, with and without numerics="adjusted".

Where several keys tie at the maximum of a row, their unnormalised weights exp(s - m) are exactly 1. Products with them
are exact, so the sum of two values of one sign lies on a bf16 number or half-way between two, and the small positive
weights of the other keys push every half-way sum to the same side: rounding P V to bf16 errs in one direction. delta =
rowsum(dO * O) inherits the error, and training drifts. Source: "Why Low-Precision Transformer Training Fails",
arXiv 2510.04212. numerics="adjusted" raises the anchor, so that the largest weight is 157/256: products then have 16
bits instead of 8, sums lie anywhere between two bf16 numbers, and rounding errs to both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

ROWS, KEYS, WIDTH, TIED = 4096, 64, 32, 2
STEPS = 64
"""The rows are dealt to so many steps of training: a bias has the same sign in all of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Independent rows, (ROWS, 1, 1 or KEYS, width) each; in the first half of the columns V and dO are negative.

    `score` is in float32, with the default scale, and `exact` is O in float64.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    upstream: Tensor
    score: Tensor
    exact: Tensor

    @classmethod
    def of(cls, q: Tensor, k: Tensor, v: Tensor, upstream: Tensor) -> Rows:
        """Rows of these tensors, rounded to bf16."""
        q, k, v, upstream = (t.bfloat16() for t in (q, k, v, upstream))
        score = torch.matmul(q.float(), k.float().mT) / sqrt(q.shape[-1])
        return cls(q, k, v, upstream, score, torch.softmax(score.double(), -1) @ v.double())


def tied_rows(seed: int = 0, count: int = ROWS) -> Rows:
    """Rows of which TIED keys have score 3, and the others 7 to 14 less, or less still.

    A score is the sum of two products, so that it has more digits than bf16 and weights do not repeat. The negative
    columns of V lie in [-4, -2], symmetric about the mean of the small weights' values: rounding the exact O is fair.
    """
    random = torch.Generator().manual_seed(seed)
    gap = 7 + 7 * torch.rand(count, 1, 1, 1, generator=random)
    score = 3 - gap - torch.randn(count, 1, KEYS, 1, generator=random).abs()
    score[:, :, :TIED] = 3.0
    q, k = torch.zeros(count, 1, 1, 16), torch.zeros(count, 1, KEYS, 16)
    q[..., :2], k[..., :1] = 4.0, score.bfloat16()  # 4 / sqrt(16): a score is the sum of the channels of k
    k[..., 1:2] = score - k[..., :1]
    v = torch.randn(count, 1, KEYS, WIDTH, generator=random)
    v[..., : WIDTH // 2] = -2 - 2 * torch.rand(count, 1, KEYS, WIDTH // 2, generator=random)
    upstream = torch.randn(count, 1, 1, WIDTH, generator=random)
    upstream[..., : WIDTH // 2] = -upstream[..., : WIDTH // 2].abs()
    return Rows.of(q, k, v, upstream)


@dataclass(frozen=True, slots=True)
class Bias:
    """The mean of signed errors over independent rows, its standard error, and the share of steps above 0."""

    mean: float
    error: float
    steps: float

    @classmethod
    def of(cls, errors: Tensor) -> Bias:
        """Of errors (rows, ...): those of one row are averaged first, for they are not independent."""
        rows = errors.double().flatten(1).mean(1)
        steps = (rows.reshape(STEPS, -1).mean(1) > 0).double().mean()
        return cls(float(rows.mean()), float(rows.std()) / rows.numel() ** 0.5, float(steps))

    @property
    def z(self) -> float:
        """The mean in standard errors: beyond 5 no chance explains it."""
        return self.mean / self.error if self.error else (0.0 if self.mean == 0 else inf)


def flash(rows: Rows, anchor_offset: float, product: torch.dtype) -> dict[str, Bias]:
    """Flash attention as low precision runs it: P in bf16 before the second product, whose sums are in `product`."""
    score = rows.score
    weights = torch.exp(score - score.amax(-1, keepdim=True) - anchor_offset)
    mass = weights.sum(-1, keepdim=True)
    rounded = weights.bfloat16()
    sums = (rounded.float() @ rows.v.float()).to(product)
    out = (sums.float() / mass).bfloat16()
    exact = rounded.double() @ rows.v.double()
    return {
        "P": Bias.of((rounded.double() - weights.double()) / weights.double()),
        "P V": Bias.of(one_sign(sums.double() - exact)),
        **biases(rows, out),
    }


def biases(rows: Rows, out: Tensor) -> dict[str, Bias]:
    """Of a result, and of delta = rowsum(dO * O) as the backward takes it from that result."""
    error = out.double() - rows.exact
    delta = (rows.upstream.double() * error).sum(-1)
    return {"O": Bias.of(one_sign(error)), "delta": Bias.of(delta)}


def one_sign(errors: Tensor) -> Tensor:
    """The columns in which V has one sign."""
    return errors[..., : WIDTH // 2]
