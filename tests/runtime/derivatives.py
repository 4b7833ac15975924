"""Gradients of a kernel beside those of its float64 reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import attngen
from tests.end_to_end.oracle import BOUND, error

BACKENDS = [None, "reference"]
"""Whatever a call chooses by itself, and the reference."""


def leaves(*tensors: Tensor) -> list[Tensor]:
    """Copies that require grad, with the strides of the tensors."""
    return [t.detach().clone().requires_grad_() for t in tensors]


def weighted(results: Tensor | tuple[Tensor, ...]) -> Tensor:
    """A number that depends on every finite entry of the results, each with a weight of its own."""
    total = torch.zeros((), dtype=torch.float64)
    for i, result in enumerate(results if isinstance(results, tuple) else (results,)):
        weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(7 + i), dtype=torch.float64)
        finite = result.isfinite()
        total = total + (result.double()[finite] * weights[finite]).sum()
    return total


def check_gradients(
    kernel: attngen.Kernel,
    by: Sequence[Tensor],
    qkv: Sequence[Tensor],
    *,
    bound: float | None = None,
    return_lse: bool = False,
    **inputs: Any,
) -> None:
    """Compares the gradients by each of the tensors `by`, which the call reads in one way or another."""
    results = [run(*qkv, return_lse=return_lse, **inputs) for run in (kernel, kernel.reference)]
    found, exact = (torch.autograd.grad(weighted(result), by, retain_graph=True) for result in results)
    for place, (tensor, one, other) in enumerate(zip(by, found, exact, strict=True)):
        assert (one.dtype, one.shape, one.device) == (tensor.dtype, tensor.shape, tensor.device)
        allowed = BOUND[qkv[0].dtype] if bound is None else bound
        assert error(one, other) <= allowed, f"gradient {place}: {error(one, other)}"
