"""The four element types, held against dense PyTorch of the same precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks, normalizers, scores
from tests.end_to_end.oracle import BOUND, check, error, kernel_of, operands
from tests.kinds import some

pytestmark = pytest.mark.cxx
SLOPES = torch.tensor([0.5, 0.25, 0.125, 0.0625])


@dataclass(frozen=True)
class Case:
    """A spec, and the weights of its scores in dense PyTorch."""

    spec: Callable[[], attngen.Spec]
    weights: Callable[[Tensor, Tensor], Tensor]


def softmax(scores: Tensor, seen: Tensor) -> Tensor:
    return torch.softmax(scores.masked_fill(~seen, float("-inf")), -1)


def biased(scores: Tensor, seen: Tensor) -> Tensor:
    n_q, n_k = scores.shape[-2:]
    distance = torch.arange(n_q)[:, None] - torch.arange(n_k)
    return softmax(scores - (SLOPES[:, None, None] * distance).to(scores.dtype), seen)


CASES = {
    "softmax": Case(lambda: attngen.Spec(mask=masks.causal()), softmax),
    "capped": Case(
        lambda: attngen.Spec(mask=masks.causal(), score=scores.soft_cap(3.0)),
        lambda s, seen: softmax(3.0 * torch.tanh(s / 3.0), seen),
    ),
    "alibi": Case(lambda: attngen.Spec(mask=masks.causal(), score=scores.alibi(SLOPES)), biased),
    "sigmoid": Case(
        lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.sigmoid(bias=-2.0)),
        lambda s, seen: torch.sigmoid(s - 2.0) * seen,
    ),
    "adjusted": Case(
        lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.softmax(numerics="adjusted")), softmax
    ),
}


def dense(case: Case, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What a user writes in PyTorch, in the dtype of the operands."""
    repeat = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril()
    return case.weights(q @ k.mT * q.shape[-1] ** -0.5, seen) @ v


PAIRS = [("softmax", t) for t in BOUND] + [(n, torch.bfloat16) for n in CASES if n != "softmax"]
PAIRS += [("capped", torch.float32)]


LATER = [("alibi", torch.bfloat16), ("capped", torch.bfloat16), ("softmax", torch.float16)]


@pytest.mark.parametrize(
    ("name", "dtype"), some(PAIRS, *LATER), ids=[f"{n}-{str(t).removeprefix('torch.')}" for n, t in PAIRS]
)
def test_error_is_at_most_twice_that_of_dense_pytorch(name: str, dtype: torch.dtype) -> None:
    case = CASES[name]
    kernel = kernel_of(case.spec())
    for n in (1, 63, 300):
        q, k, v = operands(n_q=n, d=64, dtype=dtype)
        exact = kernel.reference(q, k, v)
        ours, theirs = error(kernel(q, k, v), exact), error(dense(case, q, k, v), exact)
        rounding = 2 * torch.finfo(dtype).eps  # dense PyTorch may be exact by luck
        assert ours <= max(2 * theirs, rounding)
        check(kernel, q, k, v)


@pytest.mark.parametrize("dtype", BOUND, ids=["fp32", "bf16", "fp16", "fp64"])
def test_log_sum_exp(dtype: torch.dtype) -> None:
    kernel = kernel_of(attngen.Spec(mask=masks.sliding_window(33)))
    for n_q, n_k in [(1, 300), (300, 1), (257, 300)]:
        check(kernel, *operands(n_q=n_q, n_k=n_k, d=64, dtype=dtype), lse=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_weights_that_tie_with_the_maximum(dtype: torch.dtype) -> None:
    q, k, v = operands(n_q=65, n_k=129, d=64, dtype=dtype)
    for spec in (attngen.Spec(), attngen.Spec(normalizer=normalizers.softmax(numerics="adjusted"))):
        check(spec, q, k[:, :, :1].expand_as(k), v)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_results_round_to_nearest(dtype: torch.dtype) -> None:
    q, k, v = operands(n_q=5, n_k=1, d=64, dtype=dtype)
    result: Any = kernel_of(attngen.Spec())(q, k, v)
    assert torch.equal(result, v.repeat_interleave(2, 1).expand_as(result))
