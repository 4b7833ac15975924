"""Every score against its formula in dense torch, and how scores combine."""

from __future__ import annotations

import pytest
import torch

from attngen import masks, scores
from attngen.errors import SpecError
from attngen.spec import Spec
from tests.library.dense import dense, inputs, qkv, run

S = torch.linspace(-3, 3, 2 * 3 * 4 * 5, dtype=torch.float64).reshape(2, 3, 4, 5)
Q, KV = torch.arange(4)[:, None], torch.arange(5)


def scored(score):
    return dense(score, 4, 5, b=2, h=3, score=S)


def test_alibi():
    slopes = torch.tensor([0.5, 0.25, 2.0], dtype=torch.float64)
    expected = S - slopes[:, None, None] * (Q + 1 - KV).abs()
    assert torch.allclose(scored(scores.alibi(slopes)), expected)


def test_soft_cap():
    assert torch.allclose(scored(scores.soft_cap(2)), 2 * torch.tanh(S / 2))


def test_relative_bias():
    length = 6
    table = torch.randn(3, 2 * length - 1, dtype=torch.float64)
    expected = S + torch.stack([table[h][Q - KV + length - 1] for h in range(3)])
    assert torch.allclose(scored(scores.relative_bias(table)), expected)


@pytest.mark.parametrize(
    "shape", [(4, 5), (3, 4, 5), (1, 4, 5), (2, 3, 4, 5), (1, 3, 4, 5), (2, 1, 4, 5), (1, 1, 4, 5)]
)
def test_bias(shape):
    bias = torch.randn(shape, dtype=torch.float64)
    assert torch.allclose(scored(scores.bias(bias)), S + bias)


def test_then():
    slopes = torch.tensor([0.5, 0.25, 2.0], dtype=torch.float64)
    cap, line = scores.soft_cap(3.0), scores.alibi(slopes)
    bias = slopes[:, None, None] * (Q + 1 - KV).abs()
    assert torch.allclose(scored(cap >> line), 3 * torch.tanh(S / 3) - bias)
    assert torch.allclose(scored(line >> cap), 3 * torch.tanh((S - bias) / 3))


def test_then_a_plain_function_on_either_side():
    def double(score):
        return 2 * score

    cap = scores.soft_cap(3.0)
    assert torch.allclose(scored(cap >> double), 6 * torch.tanh(S / 3))
    assert torch.allclose(scored(double >> cap), 3 * torch.tanh(2 * S / 3))


def test_numbers_and_tensors_are_read_at_run_time():
    slopes = torch.ones(3, dtype=torch.float64)
    score = scores.alibi(slopes)
    before = scored(score)
    slopes.mul_(2)
    assert torch.allclose(scored(score) - S, 2 * (before - S))
    assert scores.soft_cap(2).traced.expr == scores.soft_cap(3).traced.expr


def test_gradients_reach_the_captured_tensor():
    table = torch.randn(3, 17, dtype=torch.float64, requires_grad=True)
    spec = Spec(mask=masks.causal(), score=scores.relative_bias(table))
    assert inputs(scores.relative_bias(table).traced)["table"] is table
    out = run(spec, qkv())
    (grad,) = torch.autograd.grad(out.square().sum(), table)
    assert grad[:, :8].abs().sum() == 0  # distances below 0 are masked
    assert grad[:, 8:].abs().sum() > 0


BAD = [
    (
        lambda: scores.alibi(torch.ones(2, 2)),
        r"slopes: got a tensor of float32 \(2, 2\); allowed: a floating-point tensor",
    ),
    (lambda: scores.alibi([0.5]), r"slopes: got \[0.5\]; allowed: a floating-point tensor \(H,\)"),
    (lambda: scores.relative_bias(torch.ones(2, 4)), r"table: .*\(H, 2 L - 1\), whose last size is odd"),
    (lambda: scores.soft_cap(0), "cap: got 0; allowed: a finite number > 0"),
    (lambda: scores.soft_cap(float("nan")), "cap: got nan; allowed: a finite number > 0"),
    (lambda: scores.bias(torch.ones(3)), r"bias: got a tensor of float32 \(3,\); allowed"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=range(len(BAD)))
def test_bad_arguments(make, message):
    with pytest.raises(SpecError, match=message):
        make()
