"""Weights against their formulas; dropout by its statistics and its repeatability."""

from __future__ import annotations

import pytest
import torch

from attngen import masks, weights
from attngen.errors import SpecError
from attngen.space import Grid
from attngen.spec import Spec
from tests.library.dense import dense, qkv, run, scores


def test_weight_comes_after_the_mass():
    tensors = qkv()
    out = run(Spec(weight=lambda q, kv: 1.0 * (q == kv)), tensors)
    p = torch.softmax(scores(tensors), -1)
    assert torch.allclose(out, (p * torch.eye(7, 9)) @ tensors["v"])


def test_gaussian():
    distance = torch.arange(4)[:, None] + 1 - torch.arange(5)
    assert torch.allclose(dense(weights.gaussian(2.0), 4, 5)[0, 0], torch.exp(-(distance**2) / 8.0).double())
    sigma = torch.tensor([1.0, 3.0])
    found = dense(weights.gaussian(sigma), 4, 5, h=2)[0]
    assert torch.allclose(found, torch.exp(-(distance**2) / (2 * sigma[:, None, None] ** 2)).double())


def test_manhattan():
    decay = torch.tensor([-0.5, -2.0], dtype=torch.float64)
    spec = Spec(weight=weights.manhattan(decay), space=Grid(2, 3), normalizer="none")
    tensors = qkv(h=2, n_q=6, n_k=6)
    point = torch.tensor([[i // 3, i % 3] for i in range(6)])
    distance = (point[:, None] - point).abs().sum(-1)
    expected = (torch.exp(decay[:, None, None] * distance) * scores(tensors)) @ tensors["v"]
    assert torch.allclose(run(spec, tensors), expected)


def test_product():
    product = weights.gaussian(2.0) * (lambda kv: kv + 1.0)
    assert torch.allclose(dense(product, 3, 4), dense(weights.gaussian(2.0), 3, 4) * torch.arange(1, 5))


class TestDropout:
    def test_statistics(self):
        found = dense(weights.dropout(0.25, 7), 64, 128, b=2, h=4)
        kept = found != 0
        assert torch.equal(found[kept].unique(), torch.tensor([1 / 0.75], dtype=torch.float64))
        assert abs(kept.double().mean() - 0.75) < 4 * (0.25 * 0.75 / found.numel()) ** 0.5
        rows = kept.double().mean(-1)
        assert abs(rows.var() - 0.25 * 0.75 / 128) < 0.3 * 0.25 * 0.75 / 128

    def test_the_seed_decides(self):
        assert torch.equal(dense(weights.dropout(0.5, 7), 16, 16), dense(weights.dropout(0.5, 7), 16, 16))
        assert not torch.equal(dense(weights.dropout(0.5, 7), 16, 16), dense(weights.dropout(0.5, 8), 16, 16))

    def test_a_tensor_seed_is_read_anew_and_gives_the_same_pattern(self):
        seed = torch.tensor([7])
        weight = weights.dropout(0.5, seed)
        assert torch.equal(dense(weight, 16, 16), dense(weights.dropout(0.5, 7), 16, 16))
        seed += 1
        assert torch.equal(dense(weight, 16, 16), dense(weights.dropout(0.5, 8), 16, 16))

    def test_zero_keeps_all(self):
        assert (dense(weights.dropout(0, 1), 8, 8) == 1).all()

    def test_pattern_does_not_depend_on_lengths(self):
        big, small = dense(weights.dropout(0.5, 3), 16, 16), dense(weights.dropout(0.5, 3), 8, 4)
        assert torch.equal(big[..., :8, :4], small)

    def test_in_a_spec(self):
        tensors = qkv()
        spec = Spec(mask=masks.causal(), weight=weights.dropout(0.5, 3))
        drop = dense(weights.dropout(0.5, 3), 7, 9, b=2, h=3)
        scored = torch.where(torch.arange(9) <= torch.arange(7)[:, None], scores(tensors), -torch.inf)
        assert torch.allclose(run(spec, tensors), (torch.softmax(scored, -1) * drop) @ tensors["v"])


BAD = [
    (lambda: weights.dropout(1.0, 0), "p: got 1.0; allowed: a number, 0 <= p < 1"),
    (lambda: weights.dropout(-0.1, 0), "p: got -0.1; allowed"),
    (lambda: weights.dropout(0.1, -1), r"seed: got -1; allowed: an integer >= 0, or an integer tensor \(1,\)"),
    (lambda: weights.dropout(0.1, torch.tensor(1.0)), r"seed: got a tensor of float32 \(\)"),
    (lambda: weights.gaussian(0), "sigma: got 0; allowed: a finite number > 0"),
    (lambda: weights.manhattan(torch.ones(2), 4), "dims: got 4; allowed: an integer in 1 .. 3"),
    (lambda: weights.uniform(3), "uniform: called outside of a mask"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=range(len(BAD)))
def test_bad_arguments(make, message):
    with pytest.raises(SpecError, match=message):
        make()
