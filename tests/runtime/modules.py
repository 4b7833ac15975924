"""A module around a kernel with captures: what torch.compile and torch.export are given."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import attngen


class Attention(nn.Module):
    """Self-attention of 4 heads with ALiBi slopes as a parameter, and a window as a number."""

    def __init__(self, width: int = 16, window: int = 9) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.slopes = nn.Parameter(torch.rand(4))
        self.window = window
        self.project = nn.Linear(width, 3 * width)

        def score(score: Any, h: Any, q: Any, kv: Any) -> Any:
            return score - self.slopes[h] * (q - kv)

        spec = attngen.Spec(mask=lambda q, kv: (q >= kv) & (q - kv < self.window), score=score)
        self.kernel = attngen.compile(spec)

    def forward(self, x: Tensor) -> Tensor:
        b, n, width = x.shape
        q, k, v = (t.view(b, n, 4, width // 4).transpose(1, 2) for t in self.project(x).chunk(3, -1))
        return self.kernel(q, k, v).transpose(1, 2).reshape(b, n, width)
