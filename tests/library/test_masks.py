"""Every mask against loops over rows and keys, with the number of keys that its docstring promises."""

from __future__ import annotations

import pytest
import torch

from attngen import masks
from attngen.errors import AttngenError, SpecError
from tests.library.dense import dense, rows

SIZES = [(6, 6), (1, 1), (4, 9), (9, 4), (1, 7), (5, 1)]


def keys(n_q, n_k, see):
    """The rows of a condition on i (bottom-right aligned), q and kv."""
    return [[j for j in range(n_k) if see(q + n_k - n_q, q, j)] for q in range(n_q)]


@pytest.mark.parametrize(("n_q", "n_k"), SIZES)
class TestLength:
    def test_full(self, n_q, n_k):
        assert rows(masks.full(), n_q, n_k) == [list(range(n_k))] * n_q

    def test_causal_top_left(self, n_q, n_k):
        found = rows(masks.causal(), n_q, n_k)
        assert found == keys(n_q, n_k, lambda i, q, j: j <= q)
        assert [len(r) for r in found] == [min(q + 1, n_k) for q in range(n_q)]

    def test_causal_bottom_right(self, n_q, n_k):
        found = rows(masks.causal("bottom_right"), n_q, n_k)
        assert found == keys(n_q, n_k, lambda i, q, j: j <= i)
        assert len(found[-1]) == n_k
        assert [len(r) for r in found] == [max(0, q + n_k - n_q + 1) for q in range(n_q)]

    @pytest.mark.parametrize("window", [1, 2, 3, 100])
    def test_sliding_window(self, n_q, n_k, window):
        found = rows(masks.sliding_window(window), n_q, n_k)
        assert found == keys(n_q, n_k, lambda i, q, j: i - window < j <= i)
        assert [len(r) for r in found] == [max(0, min(q + n_k - n_q + 1, window)) for q in range(n_q)]

    @pytest.mark.parametrize(("left", "right"), [(2, 1), (0, 0), (-1, 0), (3, -1), (-1, -1), (0, 4)])
    def test_window(self, n_q, n_k, left, right):
        def see(i, q, j):
            return (left < 0 or j >= i - left) and (right < 0 or j <= i + right)

        assert rows(masks.window(left, right), n_q, n_k) == keys(n_q, n_k, see)

    def test_sliding_window_is_a_window(self, n_q, n_k):
        assert rows(masks.sliding_window(3), n_q, n_k) == rows(masks.window(2, 0), n_q, n_k)

    @pytest.mark.parametrize("name", ["prefix", "sink"])
    @pytest.mark.parametrize("n", [0, 2, 50])
    def test_first_keys(self, n_q, n_k, name, n):
        assert rows(getattr(masks, name)(n), n_q, n_k) == [list(range(min(n, n_k)))] * n_q

    @pytest.mark.parametrize("size", [1, 3, 100])
    def test_chunked(self, n_q, n_k, size):
        def see(i, q, j):
            start = i - i % size
            return start <= j < start + size

        assert rows(masks.chunked(size), n_q, n_k) == keys(n_q, n_k, see)

    @pytest.mark.parametrize(("window", "dilation"), [(0, 1), (1, 2), (2, 3), (2, 1)])
    def test_dilated(self, n_q, n_k, window, dilation):
        steps = [dilation * s for s in range(-window, window + 1)]
        found = rows(masks.dilated(window, dilation), n_q, n_k)
        assert found == keys(n_q, n_k, lambda i, q, j: j - i in steps)


def test_dilated_counts():
    found = rows(masks.dilated(2, 3), 30, 30)
    assert all(len(found[i]) == 5 for i in range(6, 24))
    causal = rows(masks.dilated(2, 3) & masks.causal(), 30, 30)
    assert all(len(causal[i]) == 3 for i in range(6, 30))


def test_per_head_numbers():
    window, left, right = torch.tensor([1, 3, 8]), torch.tensor([-1, 0, 2]), torch.tensor([0, -1, 1])
    found = dense(masks.sliding_window(window), 5, 7, h=3)[0]
    both = dense(masks.window(left, right), 5, 7, h=3)[0]
    several = dense(masks.chunked(window) | masks.prefix(window) & ~masks.dilated(window, window), 5, 7, h=3)[0]
    for h in range(3):
        w = int(window[h])
        assert torch.equal(found[h], dense(masks.sliding_window(w), 5, 7)[0, 0])
        assert torch.equal(both[h], dense(masks.window(int(left[h]), int(right[h])), 5, 7)[0, 0])
        expected = masks.chunked(w) | masks.prefix(w) & ~masks.dilated(w, w)
        assert torch.equal(several[h], dense(expected, 5, 7)[0, 0])


def test_numbers_are_read_at_run_time():
    first, second = masks.sliding_window(3), masks.sliding_window(4)
    assert first.traced.expr == second.traced.expr
    assert [binding.fetch() for binding in first.traced.bindings.values()] == [3]


class TestDocument:
    ids = torch.tensor([0, 0, 0, 1, 1, 2])

    def test_ids(self):
        found = rows(masks.document(self.ids), 6, 6)
        assert found == [[0, 1, 2]] * 3 + [[3, 4]] * 2 + [[5]]

    def test_ids_of_each_batch(self):
        ids = torch.stack([self.ids, torch.tensor([0, 1, 1, 1, 1, 1])])
        found = dense(masks.document(ids), 6, 6, b=2)[:, 0]
        for b in range(2):
            assert found[b].tolist() == [[int(ids[b, i]) == int(ids[b, j]) for j in range(6)] for i in range(6)]

    def test_offsets_are_the_same(self):
        offsets = torch.tensor([0, 3, 5, 6], dtype=torch.int32)
        assert rows(masks.document(cu_seqlens=offsets), 6, 6) == rows(masks.document(self.ids), 6, 6)

    def test_offsets_are_read_anew(self):
        offsets = torch.tensor([0, 3, 5, 6])
        mask = masks.document(cu_seqlens=offsets)
        offsets[1] = 1
        assert rows(mask, 6, 6) == [[0]] + [[1, 2, 3, 4]] * 4 + [[5]]

    def test_no_bottom_right_offset(self):
        assert rows(masks.document(self.ids), 2, 6) == [[0, 1, 2]] * 2

    def test_an_empty_document_has_no_tokens(self):
        assert rows(masks.document(cu_seqlens=torch.tensor([0, 2, 2, 4])), 4, 4) == [[0, 1]] * 2 + [[2, 3]] * 2


def test_lengths():
    found = dense(masks.lengths(torch.tensor([4, 0, 9])), 3, 5, b=3)[:, 0]
    assert found.sum(-1).tolist() == [[4] * 3, [0] * 3, [5] * 3]
    assert found[0].tolist() == [[True] * 4 + [False]] * 3


class TestCombination:
    a, b = masks.causal(), masks.sink(2)

    def test_operators(self):
        left, right = dense(self.a, 4, 5), dense(self.b, 4, 5)
        assert torch.equal(dense(self.a & self.b, 4, 5), left & right)
        assert torch.equal(dense(self.a | self.b, 4, 5), left | right)
        assert torch.equal(dense(~self.a, 4, 5), ~left)

    def test_plain_functions_on_either_side(self):
        def odd(q, kv):
            return kv % 2 == 1

        expected = dense(self.a, 4, 5) & (torch.arange(5) % 2 == 1)
        assert torch.equal(dense(self.a & odd, 4, 5), expected)
        assert torch.equal(dense(odd & self.a, 4, 5), expected)
        assert torch.equal(dense(odd | self.a, 4, 5), dense(self.a | odd, 4, 5))

    def test_equal_names_stay_apart_and_equal_variables_are_one(self):
        both = masks.sink(1) | masks.prefix(3)
        assert sorted(b.fetch() for b in both.traced.bindings.values()) == [1, 3]
        assert rows(both, 2, 4) == [[0, 1, 2]] * 2
        sink = masks.sink(1)
        assert len((sink | ~sink).traced.inputs) == 1

    def test_full_is_neutral(self):
        assert (masks.full() & self.a).traced.expr == self.a.traced.expr
        assert (self.a & masks.full()).traced.expr == self.a.traced.expr

    def test_streaming_llm(self):
        found = rows(masks.sink(2) & masks.causal() | masks.sliding_window(3), 8, 8)
        assert found[0] == [0]
        assert found[7] == [0, 1, 5, 6, 7]

    def test_not_a_mask(self):
        with pytest.raises(SpecError, match=r"mask: got 3; allowed: a function, a text or an object of attngen.masks"):
            self.a & 3


BAD = [
    (lambda: masks.causal("left"), "align: got 'left'; allowed: top_left, bottom_right"),
    (lambda: masks.sliding_window(0), r"window: got 0; allowed: an integer >= 1, or an integer tensor \(H,\)"),
    (lambda: masks.sliding_window(2.5), "window: got 2.5; allowed: an integer >= 1"),
    (lambda: masks.sliding_window(True), "window: got True; allowed: an integer >= 1"),
    (
        lambda: masks.sliding_window(torch.ones(2)),
        r"window: got a tensor of float32 \(2,\); allowed: an integer tensor",
    ),
    (lambda: masks.window(-2, 0), "left: got -2; allowed: an integer >= -1"),
    (lambda: masks.window(0, "x"), "right: got 'x'; allowed: an integer >= -1"),
    (lambda: masks.prefix(-1), "n: got -1; allowed: an integer >= 0"),
    (lambda: masks.sink(None), "n: got None; allowed: an integer >= 0"),
    (lambda: masks.chunked(0), "size: got 0; allowed: an integer >= 1"),
    (lambda: masks.dilated(1, 0), "dilation: got 0; allowed: an integer >= 1"),
    (lambda: masks.document(), "ids, cu_seqlens: got neither; give exactly one"),
    (lambda: masks.document(torch.ones(3)), r"ids: got a tensor of float32 \(3,\); allowed: an integer tensor"),
    (lambda: masks.document(cu_seqlens=[0, 3]), r"cu_seqlens: got \[0, 3\]; allowed: an integer tensor \(S \+ 1,\)"),
    (lambda: masks.lengths(torch.ones(2, 2).long()), r"kv_lengths: got a tensor of int64 \(2, 2\); allowed"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=range(len(BAD)))
def test_bad_arguments(make, message):
    with pytest.raises(AttngenError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
