"""One kernel and its error, for tools that watch a process.

python -m benchmarks.gpu.small [N H D]
"""

from __future__ import annotations

import sys

import torch

import attngen
from attngen import masks


def main(n: int = 203, h: int = 2, d: int = 64) -> None:
    """A causal forward in bf16."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    q, k, v = (torch.randn(1, h, n, d, device=device, dtype=torch.bfloat16) for _ in range(3))
    kernel = attngen.compile(attngen.Spec(mask=masks.causal()), backend="triton")
    out, exact = kernel(q, k, v), kernel.reference(q, k, v)
    print(f"error {float((out.double() - exact).norm() / exact.norm()):.1e}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
