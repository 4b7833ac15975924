"""Windows and patterns of sequences against loops over rows and keys, written from their definitions.

Each test also counts the keys of a row as the docstring of the mask does.
"""

from __future__ import annotations

import pytest
import torch

from attngen import masks
from attngen.errors import SpecError
from tests.library.dense import dense, rows

SIZES = [(24, 24), (1, 1), (7, 30), (30, 7), (1, 19)]


def keys(n_q, n_k, see):
    """The keys of each row for a condition on i (bottom-right aligned) and j."""
    return [[j for j in range(n_k) if see(q + n_k - n_q, j)] for q in range(n_q)]


def counts(n_q, n_k, count):
    """What a docstring promises of row i; nothing where i < 0."""
    return [count(i) if i >= 0 else 0 for i in (q + n_k - n_q for q in range(n_q))]


@pytest.mark.parametrize(("n_q", "n_k"), SIZES)
class TestPatterns:
    @pytest.mark.parametrize(("left", "right", "sinks"), [(3, 0, 2), (2, 2, 4), (5, -1, 1)])
    def test_flash_attention_with_sink_tokens(self, n_q, n_k, left, right, sinks):
        """`sink_token_length`: sinks are exempt from the left limit, and not from the right one."""
        mask = (masks.window(left, -1) | masks.sink(sinks)) & masks.window(-1, right)
        expected = keys(n_q, n_k, lambda i, j: (j >= i - left or j < sinks) and (right < 0 or j <= i + right))
        assert rows(mask, n_q, n_k) == expected

    def test_flash_attention_chunk(self, n_q, n_k):
        """`attention_chunk`, Llama 4: the chunk that holds i, up to i."""
        mask = masks.causal("bottom_right") & masks.chunked(5)
        found = rows(mask, n_q, n_k)
        assert found == keys(n_q, n_k, lambda i, j: i - i % 5 <= j < i - i % 5 + 5 and j <= i)
        assert [len(row) for row in found] == counts(n_q, n_k, lambda i: i % 5 + 1)

    @pytest.mark.parametrize("w", [1, 4])
    def test_symmetric(self, n_q, n_k, w):
        assert rows(masks.window(w, w), n_q, n_k) == keys(n_q, n_k, lambda i, j: abs(i - j) <= w)

    @pytest.mark.parametrize("stride", [1, 3, 5, 40])
    def test_strided(self, n_q, n_k, stride):
        """Both sets of Sparse Transformers: max(0, i - stride) .. i, and (i - j) mod stride = 0."""

        def see(i, j):
            recent = max(0, i - stride) <= j <= i
            return recent or (j <= i and (i - j) % stride == 0)

        found = rows(masks.strided(stride), n_q, n_k)
        assert found == keys(n_q, n_k, see)
        assert [len(row) for row in found] == counts(n_q, n_k, lambda i: min(i + 1, stride) + i // stride)

    @pytest.mark.parametrize("n", [0, 3, 50])
    def test_global_tokens(self, n_q, n_k, n):
        found = rows(masks.global_tokens(n), n_q, n_k)
        assert found == keys(n_q, n_k, lambda i, j: i < n or j < n)
        assert {len(row) for row in found} <= {n_k, min(n, n_k)}

    @pytest.mark.parametrize(("initial", "local"), [(0, 1), (2, 4), (4, 1), (50, 3)])
    def test_a_shape(self, n_q, n_k, initial, local):
        found = rows(masks.a_shape(initial, local), n_q, n_k)
        assert found == keys(n_q, n_k, lambda i, j: j <= i and (j < initial or i - j < local))
        assert [len(row) for row in found] == counts(n_q, n_k, lambda i: min(i + 1, initial + local))

    @pytest.mark.parametrize("last", [0, 1, 6, 100])
    def test_tri_shape(self, n_q, n_k, last):
        a, full = keys(n_q, n_k, lambda i, j: j <= i and (j < 2 or i - j < 3)), keys(n_q, n_k, lambda i, j: j <= i)
        first = max(0, n_q - last)
        assert rows(masks.tri_shape(2, 3, last), n_q, n_k) == a[:first] + full[first:]

    @pytest.mark.parametrize(("block", "window", "sinks"), [(1, 1, 0), (2, 1, 1), (2, 4, 0), (3, 2, 2)])
    def test_power_blocks(self, n_q, n_k, block, window, sinks):
        powers = {2**n for n in range(10)}

        def see(i, j):
            d = i // block - j // block
            return j <= i and (d < window or j // block < sinks or d in powers)

        assert rows(masks.power_blocks(block, window, sinks), n_q, n_k) == keys(n_q, n_k, see)


def test_power_blocks_reach_twice_as_far_with_every_layer():
    """The docstring's counts, and the paper's claim: n layers carry something over 2 ** n blocks."""
    found = rows(masks.power_blocks(4, sinks=0), 4 * 32, 4 * 32)
    for i, row in enumerate(found):
        whole = len({j // 4 for j in row}) - 1
        assert whole == (i // 4).bit_length()
        assert len(row) == 4 * whole + i % 4 + 1
    reached = torch.eye(32, dtype=torch.bool)
    step = torch.tensor([[any(j // 4 == b for j in found[4 * a + 3]) for b in range(32)] for a in range(32)])
    for n in range(1, 5):
        reached = (reached.float() @ step.float()) > 0
        assert bool(reached[-1, 31 - 2**n + 1 :].all())


class TestBigBird:
    """Three blocks around the query, the first and the last block, and random ones, in both directions for the first
    and the last block: the block-sparse attention of the released code, query block by query block."""

    def blocks(self, i, last, drawn=()):
        if i in (0, last):
            return set(range(last + 1))
        return {0, i - 1, i, i + 1, last, *drawn}

    @pytest.mark.parametrize(("n", "block"), [(24, 4), (23, 4), (5, 8), (9, 1)])
    def test_without_random_blocks(self, n, block):
        last = (n - 1) // block
        expected = [[j for j in range(n) if j // block in self.blocks(i // block, last)] for i in range(n)]
        assert rows(masks.bigbird(block), n, n) == expected

    def test_random_blocks_of_each_head(self):
        table = torch.tensor([[[3, 3], [5, 2], [0, 1], [5, 0], [1, 1], [2, 2]], [[0, 0], [4, 5]] + [[1, 3]] * 4])
        found = dense(masks.bigbird(4, table), 24, 24, h=2)[0]
        for h in range(2):
            for i in range(24):
                seen = self.blocks(i // 4, 5, table[h, i // 4].tolist())
                assert found[h, i].tolist() == [j // 4 in seen for j in range(24)]


class TestVerticalSlash:
    columns = torch.zeros(2, 12, dtype=torch.bool).index_fill_(1, torch.tensor([0, 5]), True)
    diagonals = torch.zeros(2, 12, dtype=torch.bool).scatter_(1, torch.tensor([[0, 3], [1, 7]]), True)

    @pytest.mark.parametrize(("n_q", "n_k"), [(12, 12), (4, 12), (12, 5)])
    def test_of_each_head(self, n_q, n_k):
        found = dense(masks.vertical_slash(self.columns, self.diagonals), n_q, n_k, h=2)[0]
        for h, distances in enumerate([(0, 3), (1, 7)]):
            expected = keys(n_q, n_k, lambda i, j, d=distances: j <= i and (j in (0, 5) or i - j in d))
            assert [row.nonzero().flatten().tolist() for row in found[h]] == expected

    def test_of_each_batch_and_head(self):
        both = torch.stack([self.columns, self.diagonals]), torch.stack([self.diagonals, self.columns])
        found = dense(masks.vertical_slash(*both), 12, 12, b=2, h=2)
        for b, pair in enumerate(zip(*both, strict=True)):
            assert torch.equal(found[b], dense(masks.vertical_slash(*pair), 12, 12, h=2)[0])


def test_numbers_of_each_head():
    numbers = torch.tensor([1, 3, 8])
    several = dense(masks.strided(numbers) | masks.global_tokens(numbers), 9, 9, h=3)[0]
    shapes = dense(masks.tri_shape(numbers, 10 - numbers, 2), 9, 9, h=3)[0]
    for h, n in enumerate(numbers.tolist()):
        assert torch.equal(several[h], dense(masks.strided(n) | masks.global_tokens(n), 9, 9)[0, 0])
        assert torch.equal(shapes[h], dense(masks.tri_shape(n, 10 - n, 2), 9, 9)[0, 0])


FLAGS = torch.zeros(2, 5, dtype=torch.bool)
BAD = [
    (lambda: masks.strided(0), r"stride: got 0; allowed: an integer >= 1, or an integer tensor \(H,\)"),
    (lambda: masks.global_tokens(-1), "n: got -1; allowed: an integer >= 0"),
    (lambda: masks.a_shape(-1, 1), "initial: got -1; allowed: an integer >= 0"),
    (lambda: masks.a_shape(1, 0), "local: got 0; allowed: an integer >= 1"),
    (lambda: masks.tri_shape(1, 1, -1), "last: got -1; allowed: an integer >= 0"),
    (lambda: masks.power_blocks(0), "block: got 0; allowed: an integer >= 1"),
    (lambda: masks.power_blocks(8, 0), "window: got 0; allowed: an integer >= 1"),
    (lambda: masks.bigbird(0), "block: got 0; allowed: an integer >= 1"),
    (
        lambda: masks.bigbird(4, torch.zeros(3, 2)),
        r"random_blocks: got a tensor of float32 \(3, 2\); allowed: an integer tensor \(H, blocks, r\)",
    ),
    (
        lambda: masks.vertical_slash(FLAGS, FLAGS[:, :4]),
        r"diagonals: got a tensor of bool \(2, 4\); allowed: a bool tensor \(H, N\) or \(B, H, N\), columns and diag",
    ),
    (lambda: masks.vertical_slash(FLAGS.long(), FLAGS), r"columns: got a tensor of int64 \(2, 5\); allowed: a bool"),
    (lambda: masks.vertical_slash([0], FLAGS), r"columns: got \[0\]; allowed: an integer tensor \(H, N\) or"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=range(len(BAD)))
def test_bad_arguments(make, message):
    with pytest.raises(SpecError, match=message):
        make()
