"""Gradients in every dtype, against float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks, normalizers
from tests.end_to_end.gradients import check_gradients
from tests.end_to_end.oracle import kernel_of, operands, random
from tests.kinds import some

pytestmark = pytest.mark.cxx

BF16, FP16, FP64 = torch.bfloat16, torch.float16, torch.float64
SINK, BIAS = random(4).requires_grad_(), random(4, 91).requires_grad_()
MASK = masks.Mask.of(lambda q, kv: (kv <= q + 3) & (kv >= q - 50) & (q % 7 != 3))

NORMALIZERS: dict[str, Callable[[], Any]] = {
    "softmax": lambda: normalizers.softmax(sink=SINK),
    "sigmoid": lambda: normalizers.sigmoid(bias=SINK),
    "affine": lambda: normalizers.affine(SINK, 0.1),
    "lssar": lambda: normalizers.lssar(power=2, offset=0.5),
    "entmax": lambda: normalizers.entmax(1.5),
    "stick-breaking": lambda: normalizers.stick_breaking(),
}
CASES = [
    *((name, FP64) for name in ("softmax", "entmax", "stick-breaking")),
    *((name, BF16) for name in ("softmax", "lssar", "stick-breaking")),
    *((name, FP16) for name in ("affine", "entmax")),
]


def names(case: Any) -> str:
    return str(case).removeprefix("torch.")


@pytest.mark.parametrize(
    ("name", "dtype"),
    some(CASES, ("softmax", FP64), ("affine", FP16), ("stick-breaking", FP64), ("stick-breaking", BF16)),
    ids=names,
)
def test_dtype(name: str, dtype: torch.dtype) -> None:
    score = attngen.scores.Score.of(lambda score, h, kv: score + BIAS[h, kv])
    kernel = kernel_of(attngen.Spec(mask=MASK, score=score, normalizer=NORMALIZERS[name]()))
    by = {"bias": BIAS} | ({"sink": SINK} if name in ("softmax", "sigmoid", "affine") else {})
    for n_q, n_k in [(67, 91), (1, 1)]:
        # Captured tensors are float32, and so are their gradients: those of float64 are rounded to it at the end.
        bounds = dict.fromkeys(by, 1e-6 if dtype == FP64 else 1e-2 if dtype == BF16 else 2e-3)
        given = by if n_k > 1 else {}
        check_gradients(
            kernel,
            *operands(n_q=n_q, n_k=n_k, d=20, dv=13, dtype=dtype),
            by=given,
            bounds=bounds,
            lse=name == "softmax",
        )


def test_sums_over_many_rows_are_not_rounded_on_the_way() -> None:
    # One key sees 900 rows: a sum in the dtype of the operands would stop growing at 256 ones.
    kernel = kernel_of(attngen.Spec(normalizer="none", scale=1.0))
    q, k, v = (torch.ones(t.shape, dtype=BF16) for t in operands(b=1, h=2, hk=1, n_q=900, n_k=3, d=8))
    q, k, v = (t.requires_grad_() for t in (q, k, v))
    kernel(q, k, v).sum().backward()
    assert v.grad is not None
    assert k.grad is not None
    assert torch.equal(v.grad, torch.full_like(v, 900 * 2 * 8))
    assert torch.equal(k.grad, torch.full_like(k, 900 * 2 * 8))


@pytest.mark.parametrize("dtype", [BF16, FP16], ids=names)
def test_errors_are_those_of_rounding_the_operands(dtype: torch.dtype) -> None:
    """At most twice the error of dense torch in the same dtype."""
    q, k, v = (t.requires_grad_() for t in operands(hk=4, n_q=91, d=32, dtype=dtype))
    kernel = kernel_of(attngen.Spec(mask=masks.causal()))
    cotangent = torch.randn(2, 4, 91, 32, generator=torch.Generator().manual_seed(3)).to(dtype)
    exact = torch.autograd.grad(kernel.reference(q, k, v), (q, k, v), cotangent.double())
    found = torch.autograd.grad(kernel(q, k, v), (q, k, v), cotangent)
    seen = torch.ones(91, 91, dtype=torch.bool).tril()
    weights = torch.where(seen, q @ k.mT / 32**0.5, -torch.inf).softmax(-1)
    dense = torch.autograd.grad(weights @ v, (q, k, v), cotangent)
    for one, other, right in zip(found, dense, exact, strict=True):
        assert (one.double() - right.double()).norm() <= 2 * (other.double() - right.double()).norm()


def test_sums_over_all_pairs_are_no_worse_than_twice_dense_torch() -> None:
    # One number takes the cotangents of a million pairs: added one by one in float32 they lose digits.
    heat, n = torch.tensor([0.3], dtype=torch.float64, requires_grad=True), 1000
    kernel = kernel_of(attngen.Spec(mask=masks.causal(), score=lambda score: score * heat[0]))
    seen = torch.ones(n, n, dtype=torch.bool).tril()

    def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.where(seen, q @ k.mT / 4 * heat[0].float(), -torch.inf).softmax(-1) @ v

    errors = []
    for seed in range(6):
        qkv = operands(b=1, h=2, hk=2, n_q=n, seed=seed)
        cotangent = torch.randn(qkv[0].shape, generator=torch.Generator().manual_seed(seed))
        runs = (call(*qkv) for call in (kernel, dense, kernel.reference))
        found = [torch.autograd.grad(out, heat, cotangent.to(out.dtype))[0] for out in runs]
        errors.append([abs(float(one) - float(found[2])) for one in found[:2]])
    ours, theirs = torch.tensor(errors).mean(0).tolist()
    assert ours <= 2 * theirs


def test_equal_values_give_no_cotangents_of_scores() -> None:
    # dS = P (dP - delta) cancels to nothing: what rounds dP (here about 7) has to round delta alike. Three keys, since
    # a mass of 1 or 2 would leave nothing to round.
    bias = torch.zeros(128, 3, requires_grad=True)
    kernel = kernel_of(attngen.Spec(score=lambda score, q, kv: score + bias[q, kv]))
    q, cotangent = (random(1, 1, 128, 64, seed=seed).to(BF16) for seed in range(2))
    k, v = (random(1, 1, 1, 64, seed=seed).to(BF16).expand(1, 1, 3, 64) for seed in (2, 3))
    (found,) = torch.autograd.grad(kernel(q, k, v), bias, cotangent)
    assert found.abs().max() <= 1e-4
