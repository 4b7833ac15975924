"""A check that needs no N x N matrix: some rows of a softmax attention, densely and in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmarks.gpu.works import Work

ROWS = 24


def rows_of(work: Work, q: Tensor, k: Tensor, v: Tensor, captured: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Some rows of the result, and which they are; straight from the functions that FlexAttention gets."""
    size, device = work.size, q.device
    generator = torch.Generator().manual_seed(1)
    at = torch.randint(size.n, (ROWS,), generator=generator).sort().values.to(device)
    out = torch.empty(size.b, size.h, ROWS, size.d, dtype=torch.float64, device=device)
    keys = torch.arange(size.n, device=device)
    for b in range(size.b):
        for h in range(size.h):
            score = q[b, h, at].double() @ k[b, h].double().T / math.sqrt(size.d)
            head = torch.tensor(h, device=device)
            if work.score is not None:
                score = work.score(size, captured)(score, b, head, at[:, None], keys[None, :])
            if work.mask is not None:
                seen = work.mask(size, captured)(b, head, at[:, None], keys[None, :])
                score = torch.where(seen, score, float("-inf"))
            out[b, h] = torch.softmax(score, -1) @ v[b, h].double()
    return out, at


def error(found: Tensor, exact: Tensor) -> float:
    """Relative Frobenius error; infinite where a number is not finite."""
    if not bool(found.isfinite().all()):
        return math.inf
    return float((found.double() - exact.double()).norm() / exact.double().norm().clamp_min(1e-300))
