"""Random operands, and the comparison of a kernel with the float64 reference."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

import attngen
from attngen.ir import nodes

BACKEND = os.environ.get("ATTNGEN_BACKEND", "cpu")
"""What runs the kernels; the tests of the Triton interpreter say "triton"."""

BOUND = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float64: 1e-12}
"""Relative Frobenius error against float64."""
LSE_BOUND = {torch.float32: 1e-5, torch.bfloat16: 1e-5, torch.float16: 1e-5, torch.float64: 1e-12}


def operands(
    b: int = 2,
    h: int = 4,
    hk: int = 2,
    n_q: int = 70,
    n_k: int | None = None,
    d: int = 16,
    dv: int | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """q (b, h, n_q, d), k (b, hk, n_k, d), v (b, hk, n_k, dv)."""
    generator = torch.Generator().manual_seed(seed)
    n_k, dv = n_q if n_k is None else n_k, d if dv is None else dv

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    return random(b, h, n_q, d), random(b, hk, n_k, d), random(b, hk, n_k, dv)


def random(*shape: int, seed: int = 1) -> Tensor:
    """Normal numbers that depend on the seed alone."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def error(found: Tensor, exact: Tensor) -> float:
    """Relative Frobenius error; NaN and infinity count as infinite where the two do not agree."""
    assert found.shape == exact.shape
    found, exact = found.detach().double(), exact.detach().double()
    odd = ~exact.isfinite() | ~found.isfinite()
    if not torch.equal(found[odd].nan_to_num(7e300), exact[odd].nan_to_num(7e300)):
        return float("inf")
    found, exact = found[~odd], exact[~odd]
    return float((found - exact).norm() / exact.norm().clamp_min(1e-300)) if exact.numel() else 0.0


def check(
    kernel: attngen.Spec | nodes.Spec | Any,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    lse: bool = False,
    bound: float | None = None,
    **inputs: Any,
) -> Tensor:
    """Runs a kernel (or the kernel of a spec) and compares it with its reference; gives the result."""
    kernel = kernel_of(kernel)
    out = kernel(q, k, v, return_lse=lse, **inputs)
    exact = kernel.reference(q, k, v, return_lse=lse, **inputs)
    if lse:
        (out, row), (exact, exact_row) = out, exact
        assert row.dtype == (torch.float64 if q.dtype == torch.float64 else torch.float32)
        assert row.shape == exact_row.shape
        finite = exact_row.isfinite()
        assert torch.equal(row.isneginf(), exact_row.isneginf())
        gap = ((row.double() - exact_row)[finite].abs() / (1 + exact_row[finite].abs())).detach()
        assert gap.numel() == 0 or float(gap.max()) <= LSE_BOUND[q.dtype]
    assert out.dtype == q.dtype
    assert error(out, exact) <= (BOUND[q.dtype] if bound is None else bound)
    return out


def kernel_of(spec: Any) -> attngen.Kernel:
    """The kernel of a spec, of nodes, or the kernel itself; none falls back to the reference."""
    if isinstance(spec, attngen.Kernel):
        return spec
    spec = attngen.Spec.from_ir(spec) if isinstance(spec, nodes.Spec) else spec
    return attngen.compile(spec, backend=BACKEND)
