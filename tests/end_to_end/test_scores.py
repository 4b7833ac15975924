"""Score functions against the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import attngen
from attngen import masks, scores
from tests.end_to_end.oracle import check, kernel_of, operands, random

pytestmark = pytest.mark.cxx
N = 130

SCORES: dict[str, Callable[[], Any]] = {
    "alibi": lambda: scores.alibi(torch.tensor([0.5, 0.25, 0.125, 0.0625])),
    "relative-bias": lambda: scores.relative_bias(random(4, 2 * N - 1)),
    "bias": lambda: scores.bias(random(2, 4, N, N)),
    "soft-cap": lambda: scores.soft_cap(2.0),
    "cap-then-alibi": lambda: scores.soft_cap(2.0) >> scores.alibi(torch.tensor([0.5, 0.25, 0.125, 0.0625])),
    "distance": lambda: lambda score, q, kv: score - torch.abs(q - kv) / 10,
    "log-distance": lambda: lambda score, q, kv: score - torch.log1p(torch.abs(q - kv) * 1.0),
    "rounded": lambda: lambda score: torch.round(score * 8) / 8,
    "branches": lambda: lambda score, q, kv, h: torch.where((q + kv) % 3 == h % 3, score, -score),
    "sine": lambda: lambda score, q, kv: score + torch.sin(q * 0.3) * torch.cos(kv * 0.7),
}


@pytest.mark.parametrize("name", SCORES)
def test_score(name: str) -> None:
    check(attngen.Spec(score=SCORES[name](), mask=masks.causal()), *operands(n_q=N), lse=True)


@pytest.mark.parametrize(
    "scale",
    [0.3, 0.0, -0.7, 1e-4, random(4), random(2, 4, 70), lambda q, n_q: 1.0 / (1 + q) + n_q * 0.001, lambda d: 2.0 / d],
    ids=["number", "zero", "negative", "small", "per-head", "per-row", "function", "of-width"],
)
def test_scale(scale: Any) -> None:
    check(attngen.Spec(scale=scale, mask=masks.causal()), *operands(), lse=True)


@pytest.mark.parametrize("mask", ["causal", "sliding_window"])
def test_scale_by_the_number_of_visible_keys(mask: str) -> None:
    given = masks.causal() if mask == "causal" else masks.sliding_window(20)
    spec = attngen.Spec(mask=given, scale=lambda n_visible: torch.log(n_visible * 1.0) * 0.25)
    kernel = kernel_of(spec)
    for n_q, n_k in [(1, 1), (70, 70), (130, 130), (33, 91), (91, 33)]:
        check(kernel, *operands(n_q=n_q, n_k=n_k), lse=True)


def test_captured_numbers_are_read_anew() -> None:
    strength = 0.5
    kernel = kernel_of(attngen.Spec(score=lambda score, q, kv: score - strength * torch.abs(q - kv)))
    first = check(kernel, *operands())
    strength = 2.0
    assert not torch.equal(check(kernel, *operands()), first)
