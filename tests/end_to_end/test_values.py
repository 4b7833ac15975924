"""Values that break attention: NaN and infinity where nobody looks, huge, tiny and absent scores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks, normalizers
from tests.end_to_end.oracle import check, error, kernel_of, operands

pytestmark = pytest.mark.cxx
NAN, INF = float("nan"), float("inf")
CAUSAL = kernel_of(attngen.Spec(mask=masks.causal()))


def poisoned(t: Tensor, at: Any, value: float) -> Tensor:
    t = t.clone()
    t[:, :, at] = value
    return t


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("operand", ["k", "v", "kv"])
def test_absent_keys_do_not_leak(operand: str, value: float, dtype: torch.dtype) -> None:
    q, k, v = operands(n_q=130, n_k=260, dtype=dtype)
    exact = check(CAUSAL, q, k, v, lse=True)
    k = poisoned(k, slice(130, None), value) if "k" in operand else k
    v = poisoned(v, slice(130, None), value) if "v" in operand else v
    out = CAUSAL(q, k, v)
    assert out.isfinite().all()
    assert error(out, exact) <= torch.finfo(dtype).eps


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "affine"])
def test_absent_keys_do_not_leak_inside_a_tile(name: str) -> None:
    rules = {"softmax": "softmax", "sigmoid": normalizers.sigmoid(), "affine": normalizers.affine(0.5, 0.1)}
    q, k, v = operands(n_q=130)
    spec = attngen.Spec(mask=lambda kv: kv % 5 != 0, normalizer=rules[name])
    check(spec, q, poisoned(k, slice(None, None, 5), NAN), poisoned(v, slice(None, None, 5), INF))


@pytest.mark.parametrize("value", [NAN, INF])
def test_values_that_are_seen_do_show(value: float) -> None:
    q, k, v = operands(n_q=130)
    check(CAUSAL, q, k, poisoned(v, 77, value), lse=True)
    assert CAUSAL(q, poisoned(k, 77, NAN), v)[:, :, 77:].isnan().all()
    assert CAUSAL(q, poisoned(k, 77, NAN), v)[:, :, :77].isfinite().all()


def test_score_of_minus_infinity_is_absent() -> None:
    q, k, v = operands(n_q=130)
    k, v = poisoned(k, slice(5, None, 7), INF), poisoned(v, slice(5, None, 7), NAN)
    spec = attngen.Spec(score=lambda score, kv: torch.where(kv % 7 == 5, -INF, score))
    check(spec, q, k, v, lse=True)


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "cog"])
def test_all_scores_of_minus_infinity(name: str) -> None:
    rule = getattr(normalizers, name)()
    spec = attngen.Spec(score=lambda score, q: torch.where(q % 4 == 1, -INF, score), normalizer=rule)
    out = check(spec, *operands(n_q=61, n_k=200), lse=name == "softmax")
    assert not out[:, :, 1::4].any()


def test_fully_masked_rows() -> None:
    spec = attngen.Spec(mask=lambda q, kv: q % 2 == 0)
    out, lse = kernel_of(spec)(*operands(n_q=130), return_lse=True)
    assert not out[:, :, 1::2].any()
    assert lse[:, :, 1::2].isneginf().all()
    assert lse[:, :, ::2].isfinite().all()


@pytest.mark.parametrize("size", [1e2, 1e4, 1e9, 1e18, 1e30, 1e36])
def test_huge_scores(size: float) -> None:
    q, k, v = operands(n_q=130)
    out, lse = CAUSAL(q * size, k, v, return_lse=True)
    exact, exact_lse = CAUSAL.reference(q * size, k, v, return_lse=True)
    assert out.isfinite().all()
    assert error(lse, exact_lse) <= 1e-5
    # Differences of scores are rounded before they are exponentiated.
    assert error(out, exact) <= max(1e-5, 3e-7 * size)


@pytest.mark.parametrize("size", [1e25, 1e37])
def test_scores_beyond_float32_are_never_nan(size: float) -> None:
    q, k, v = operands(n_q=130)
    for sign in (1.0, -1.0):
        assert CAUSAL(q * size, k * size * sign, v).isfinite().all()
        assert CAUSAL(q.abs() * size, k.abs() * size * sign, v).isfinite().all()


@pytest.mark.parametrize("size", [1e4, 1e20])
def test_huge_negative_and_positive_scores_in_one_row(size: float) -> None:
    q, k, v = operands(n_q=130)
    q = torch.ones_like(q)
    k = torch.zeros_like(k)
    k[:, :, 3], k[:, :, 64:] = -size, size
    check(CAUSAL, q, k, v, lse=True)


def test_all_scores_equal_and_huge() -> None:
    q, k, v = operands(n_q=130)
    check(CAUSAL, torch.ones_like(q) * 1e15, torch.ones_like(k) * 1e15, v, lse=True)


@pytest.mark.parametrize("size", [1e-20, 1e-30, 1e-38, 1e-42])
def test_tiny_operands(size: float) -> None:
    q, k, v = operands(n_q=130)
    check(CAUSAL, q * size, k * size, v, lse=True)
    check(CAUSAL, q, k, v * size, bound=1e-5 if size > 1e-37 else 1e-2)


def test_large_values_do_not_overflow_before_division() -> None:
    q, k, v = operands(n_q=130)
    assert CAUSAL(q, k, v.sign() * 1e36).isfinite().all()


def test_scores_that_overflow_the_weights_of_exp() -> None:
    # No anchor: exp(s) itself overflows in float32 above 88.
    spec = attngen.Spec(normalizer=normalizers.softplus_l1())
    q, k, v = operands(n_q=65)
    check(spec, q * 1000, k, v, bound=1e-4)
