"""Score functions against the oracle."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import attngen
from attngen import masks, scores
from tests.end_to_end.oracle import check, kernel_of, operands

pytestmark = pytest.mark.cxx


def test_score_programs() -> None:
    """One after the other; test_gradients_scores has the scores of the library."""
    program = (
        scores.Score.of(lambda score: torch.round(score * 8) / 8)
        >> (lambda score, q, kv, h: torch.where((q + kv) % 3 == h % 3, score, -score))
        >> (lambda score, q, kv: score - torch.log1p(torch.abs(q - kv) * 1.0))
        >> (lambda score, q, kv: score + torch.sin(q * 0.3) * torch.cos(kv * 0.7))
    )
    check(attngen.Spec(score=program, mask=masks.causal()), *operands(n_q=130), lse=True)


@pytest.mark.parametrize(
    "scale",
    [0.3, 0.0, -0.7, 1e-4, lambda q, n_q: 1.0 / (1 + q) + n_q * 0.001],
    ids=["number", "zero", "negative", "small", "function"],
)
def test_scale(scale: Any) -> None:
    check(attngen.Spec(scale=scale, mask=masks.causal()), *operands(), lse=True)


def test_scale_by_the_number_of_visible_keys() -> None:
    spec = attngen.Spec(mask=masks.sliding_window(20), scale=lambda n_visible: torch.log(n_visible * 1.0) * 0.25)
    kernel = kernel_of(spec)
    for n_q, n_k in [(1, 1), (70, 70), (130, 130), (33, 91), (91, 33)]:
        check(kernel, *operands(n_q=n_q, n_k=n_k), lse=True)


def test_captured_numbers_are_read_anew() -> None:
    strength = 0.5
    kernel = kernel_of(attngen.Spec(score=lambda score, q, kv: score - strength * torch.abs(q - kv)))
    first = check(kernel, *operands())
    strength = 2.0
    assert not torch.equal(check(kernel, *operands()), first)
