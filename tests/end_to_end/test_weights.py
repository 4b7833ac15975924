"""Weights that multiply after the mass is taken; dropout draws the reference's random numbers bit for bit."""

from __future__ import annotations

import pytest
import torch

import attngen
from attngen import masks, normalizers, weights
from attngen.ir.philox import uniform
from tests.end_to_end.oracle import check, kernel_of, operands

pytestmark = pytest.mark.cxx


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=["fp32", "bf16", "fp64"])
@pytest.mark.parametrize("seed", [0, 7, 2**33 + 5, 2**63 - 1])
def test_dropout_draws_the_numbers_of_the_reference(seed: int, dtype: torch.dtype) -> None:
    # Uniform weights over the identity as values: the result is the pattern itself.
    n, p = 64, 0.3
    q = torch.zeros(2, 3, n, 4, dtype=dtype)
    v = torch.eye(n, dtype=dtype).expand(2, 3, n, n)
    out = kernel_of(attngen.Spec(weight=weights.dropout(p, seed=seed)))(q, q, v)
    b, h, i, j = (torch.arange(size) for size in (2, 3, n, n))
    numbers = uniform(torch.tensor(seed), b[:, None, None, None], h[:, None, None], i[:, None], j)
    assert torch.equal(out != 0, numbers >= p)


def test_dropout_with_a_mask_and_lse() -> None:
    spec = attngen.Spec(mask=masks.sliding_window(40), weight=weights.dropout(0.25, seed=11))
    kernel = kernel_of(spec)
    for n_q, n_k in [(1, 1), (130, 130), (70, 201)]:
        check(kernel, *operands(n_q=n_q, n_k=n_k), lse=True)


def test_dropout_with_a_new_seed_at_each_call() -> None:
    seed = torch.tensor([1])
    kernel = kernel_of(attngen.Spec(weight=weights.dropout(0.5, seed=seed)))
    first = check(kernel, *operands())
    seed.fill_(2)
    second = check(kernel, *operands())
    assert not torch.equal(first, second)
    seed.fill_(1)
    assert torch.equal(kernel(*operands()), first)


def test_dropout_without_a_mass() -> None:
    check(attngen.Spec(normalizer=normalizers.sigmoid(), weight=weights.dropout(0.5, seed=3)), *operands())


@pytest.mark.parametrize("sigma", [4.0, torch.tensor([1.0, 3.0, 9.0, 50.0])], ids=["number", "per-head"])
def test_gaussian(sigma: float) -> None:
    kernel = kernel_of(attngen.Spec(mask=masks.causal(), weight=weights.gaussian(sigma)))
    for n_q, n_k in [(1, 1), (130, 130), (33, 70)]:
        check(kernel, *operands(n_q=n_q, n_k=n_k), lse=True)


def test_manhattan() -> None:
    decay = torch.log(1 - 2.0 ** (-2 - torch.arange(4.0)))
    check(attngen.Spec(weight=weights.manhattan(decay), space=attngen.Grid((7, 11))), *operands(n_q=77))
