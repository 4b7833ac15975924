"""Which scores a program may make infinite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import attngen
from attngen import scores
from attngen.codegen.derive.overflow import products_fit, scores_blow_up
from tests.codegen.plans import plan_of

TABLE = torch.ones(4, 9)
TAME: dict[str, Callable[..., Any]] = {
    "sums": lambda score, h, q, kv: score * 3.0 + TABLE[h, q - kv + 4] - 0.5 * (q - kv),
    "bounded": lambda score: 30.0 * torch.tanh(torch.exp(score)),
    "falls": lambda score, q, kv: score * torch.exp(-0.1 * abs(q - kv)),
    "scaled": lambda score, h: score / 7.0 + score / TABLE[h, 0],
    "logarithm": lambda score: torch.log1p(torch.relu(score)),
}
STEEP: dict[str, Callable[..., Any]] = {
    "exp": lambda score: torch.exp(score),
    "inside": lambda score, q, kv: torch.where(q > kv, score, 2.0 * (score + torch.exp2(score))),
    "powers": lambda score: torch.relu(score) ** 9.5,
    "quotient": lambda score: 1.0 / score,
}


@pytest.mark.parametrize("name", TAME)
def test_programs_that_stay_finite(name: str) -> None:
    assert not scores_blow_up(plan_of(attngen.Spec(score=TAME[name])).branches[0])


@pytest.mark.parametrize("name", STEEP)
def test_programs_that_may_not(name: str) -> None:
    assert scores_blow_up(plan_of(attngen.Spec(score=STEEP[name])).branches[0])


def test_the_library() -> None:
    for score in (None, scores.alibi(torch.ones(4)), scores.soft_cap(30.0) >> scores.relative_bias(TABLE)):
        assert not scores_blow_up(plan_of(attngen.Spec(score=score)).branches[0])


def test_products_of_half_precision_are_finite() -> None:
    most = torch.finfo(torch.float16).max ** 2 * 2**16
    assert most < torch.finfo(torch.float32).max
    assert [dtype for dtype in ("fp32", "bf16", "fp16") if products_fit(dtype)] == ["fp16"]
