"""Weights that multiply after the mass is taken; dropout draws the reference's random numbers bit for bit."""

from __future__ import annotations

import pytest
import torch

import attngen
from attngen import masks, weights
from attngen.ir.philox import uniform
from tests.end_to_end.oracle import check, kernel_of, operands

pytestmark = pytest.mark.cxx


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=["bf16", "fp64"])
@pytest.mark.parametrize("seed", [0, 7, 2**33 + 5, 2**63 - 1])
def test_dropout_draws_the_numbers_of_the_reference(seed: int, dtype: torch.dtype) -> None:
    # Uniform weights over the identity as values: the result is the pattern itself.
    # test_gradients_weights has float32, seeds that change from call to call, sinks and windows.
    n, p = 64, 0.3
    q = torch.zeros(2, 3, n, 4, dtype=dtype)
    v = torch.eye(n, dtype=dtype).expand(2, 3, n, n)
    out = kernel_of(attngen.Spec(weight=weights.dropout(p, seed=seed)))(q, q, v)
    b, h, i, j = (torch.arange(size) for size in (2, 3, n, n))
    numbers = uniform(torch.tensor(seed), b[:, None, None, None], h[:, None, None], i[:, None], j)
    assert torch.equal(out != 0, numbers >= p)


def test_gaussian() -> None:
    kernel = kernel_of(attngen.Spec(mask=masks.causal(), weight=weights.gaussian(4.0)))
    for n_q, n_k in [(1, 1), (130, 130), (33, 70)]:
        check(kernel, *operands(n_q=n_q, n_k=n_k), lse=True)
