"""Extra keys under the normalizer of a spec, against dense attention over both sets and NATTEN's merge of two parts."""

from __future__ import annotations

import pytest
import torch

import attngen
from attngen import masks, mechanisms, normalizers, scores
from attngen.errors import SpecError
from attngen.ir.nodes import Branch, Dot, Input, View
from tests.library.dense import dense, qkv, run

GRID = (4, 5)
MASK = masks.neighborhood(GRID, 3)
SEEN = dense(MASK, 20, 20)
TENSORS = qkv(n_q=20, n_k=20)
EXTRA = {"extra_k": torch.randn(2, 3, 6, 8).double(), "extra_v": torch.randn(2, 3, 6, 5).double()}


def both(change=lambda s: s, extra_change=None, seen=True):
    """Scores of the 20 keys and the 6 extra ones side by side; absent keys are -inf."""
    q, k = TENSORS["q"], TENSORS["k"]
    main = torch.where(SEEN, change(q @ k.mT * 8**-0.5), -torch.inf)
    extra = (extra_change or change)(q @ EXTRA["extra_k"].mT * 8**-0.5)
    return torch.cat([main, torch.where(torch.as_tensor(seen), extra, -torch.inf)], -1)


VALUES = torch.cat([TENSORS["v"], EXTRA["extra_v"]], 2)


def test_one_softmax_over_both_sets():
    out, lse = run(mechanisms.neighborhood(GRID, 3, extra_keys=True), TENSORS, True, **EXTRA)
    assert torch.allclose(out, torch.softmax(both(), -1) @ VALUES)
    assert torch.allclose(lse, both().logsumexp(-1))


def test_the_merge_of_two_softmaxes_is_the_same():
    """NATTEN computes two results and merges them by their log-sum-exps."""
    one, first = run(mechanisms.neighborhood(GRID, 3), TENSORS, True)
    extra = {"q": TENSORS["q"], "k": EXTRA["extra_k"], "v": EXTRA["extra_v"]}
    two, second = run(mechanisms.full(), extra, True)
    share = torch.sigmoid(second - first)[..., None]
    out, lse = run(mechanisms.neighborhood(GRID, 3, extra_keys=True), TENSORS, True, **EXTRA)
    assert torch.allclose(out, one - share * (one - two))
    assert torch.allclose(lse, first - torch.nn.functional.logsigmoid(first - second))


def test_another_normalizer():
    """No merge of two results gives this: both sets are weighed alike."""
    spec = mechanisms.neighborhood(GRID, 3, normalizer=normalizers.sigmoid(-1.0)).with_extra_keys()
    assert torch.allclose(run(spec, TENSORS, **EXTRA), torch.sigmoid(both() - 1.0) @ VALUES)


def test_the_score_of_the_spec_is_that_of_extra_keys():
    spec = mechanisms.neighborhood(GRID, 3, score=scores.soft_cap(0.7), extra_keys=True)
    assert spec.ir.branches[0].keysets[0].score == spec.ir.branches[0].score
    expected = torch.softmax(both(lambda s: 0.7 * torch.tanh(s / 0.7)), -1) @ VALUES
    assert torch.allclose(run(spec, TENSORS, **EXTRA), expected)


def test_a_mask_and_a_score_of_their_own():
    """Inputs of the same name stay apart; queries have coordinates, extra keys have none."""
    lengths = torch.tensor([2, 6])
    base = mechanisms.neighborhood(GRID, 3, score=scores.soft_cap(0.7))
    spec = base.with_extra_keys(mask=lambda b, q, kv: (kv < lengths[b]) & (q[0] > 0), score=scores.soft_cap(5.0))
    seen = (torch.arange(6) < lengths[:, None, None, None]) & (torch.arange(20) // 5 > 0)[:, None]
    capped = both(lambda s: 0.7 * torch.tanh(s / 0.7), lambda s: 5 * torch.tanh(s / 5), seen)
    assert torch.allclose(run(spec, TENSORS, **EXTRA), torch.softmax(capped, -1) @ VALUES)


def test_extra_keys_beside_a_sequence():
    spec = attngen.Spec(mask=masks.sliding_window(3), scale=0.3).with_extra_keys()
    seen = dense(masks.sliding_window(3), 20, 20)
    q, k = TENSORS["q"], TENSORS["k"]
    s = torch.cat([torch.where(seen, 0.3 * q @ k.mT, -torch.inf), 0.3 * q @ EXTRA["extra_k"].mT], -1)
    assert torch.allclose(run(spec, TENSORS, **EXTRA), torch.softmax(s, -1) @ VALUES)


ROPE = attngen.Spec.of(
    Branch(normalizers.softmax().ir, dots=(Dot(), Dot(View("q_rope"), View("k_rope")))),
    inputs=(Input("q_rope", ("b", "h", "q", "?")), Input("k_rope", ("b", "?", "kv", "?"))),
)
BAD = [
    (
        lambda: mechanisms.dual_triangle().with_extra_keys(),
        "within_head: has 2 branches; extra keys join",
    ),
    (lambda: mechanisms.dual_triangle("joint").with_extra_keys(), "the place of a key decides between its dots"),
    (
        lambda: mechanisms.neighborhood(8, 3, score=scores.alibi(torch.rand(3)), extra_keys=True),
        'score: reads the position of a key, kv, .* or score="score" for the dot product alone',
    ),
    (lambda: ROPE.with_extra_keys(), "k_rope: is read beside k and v, and extra keys have no such tensor"),
    (lambda: attngen.Spec().with_extra_keys().with_extra_keys(), "the name 'extra_k' is given to two inputs"),
    (
        lambda: mechanisms.neighborhood(GRID, 3).with_extra_keys(lambda kv: kv[0] < 3),
        r"key set 1, mask: 'kv\[0\]' is a coordinate on a grid, and these positions have none; use 'kv'",
    ),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=range(len(BAD)))
def test_what_has_no_extra_keys(make, message):
    with pytest.raises(SpecError, match=message):
        make()
