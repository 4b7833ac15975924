"""Windows of grids against their published definitions, each written out on its own: the code of Swin, MaxViT and
FastVideo, loops for the others."""

from __future__ import annotations

import itertools

import pytest
import torch

from attngen import masks, mechanisms
from attngen.errors import SpecError
from tests.library.dense import dense, qkv, run


def found(mask):
    """The mask of every pair."""
    n = torch.Size(mask.grid).numel()
    return dense(mask, n, n)[0, 0]


def product(*axes):
    """The dense mask on a grid of conditions on one axis each."""
    result = torch.ones(1, 1, dtype=torch.bool)
    for axis in axes:
        result = torch.kron(result.long(), axis.long()).bool()
    return result


def along(length, see):
    return torch.tensor([[see(i, j) for j in range(length)] for i in range(length)])


def groups(ids, n):
    """The dense mask in which the tokens of each row of `ids` see each other."""
    seen = torch.zeros(n, n, dtype=torch.bool)
    for group in ids:
        seen[group[:, None], group] = True
    return seen


def windows(image, window):
    """Swin's window_partition: (windows, tokens)."""
    h, w = image.shape
    return (
        image.view(h // window[0], window[0], w // window[1], window[1])
        .transpose(1, 2)
        .reshape(-1, window[0] * window[1])
    )


class TestBlocked:
    @pytest.mark.parametrize(
        ("dims", "window"), [((8, 12), (4, 4)), ((6, 10), (2, 5)), ((7, 7), (7, 7)), ((4, 6), (1, 3))]
    )
    def test_window_partition(self, dims, window):
        ids = torch.arange(dims[0] * dims[1]).view(dims)
        assert torch.equal(found(masks.blocked(dims, window)), groups(windows(ids, window), ids.numel()))

    def test_one_and_three_dimensions_with_what_is_left(self):
        axes = [along(n, lambda i, j, w=w: i // w == j // w) for n, w in ((5, 2), (4, 4), (7, 3))]
        assert torch.equal(found(masks.blocked((5, 4, 7), (2, 4, 3))), product(*axes))
        assert torch.equal(found(masks.blocked(7, 3)), axes[2])

    @pytest.mark.parametrize(
        ("dims", "window", "shift"), [((8, 12), (4, 4), (2, 2)), ((6, 10), (2, 5), (1, 3)), ((8, 8), (4, 8), (2, 0))]
    )
    def test_shifted_windows_are_those_of_swin(self, dims, window, shift):
        """Roll by -shift, cut into windows, mask pairs whose regions (of the rolled image) differ."""
        ids = torch.arange(dims[0] * dims[1]).view(dims).roll([-s for s in shift], (0, 1))
        region = torch.zeros(dims, dtype=torch.long)
        cuts = [
            (slice(0, -w), slice(-w, -s), slice(-s, None)) if s else (slice(None),)
            for w, s in zip(window, shift, strict=True)
        ]
        for number, (rows, columns) in enumerate(itertools.product(*cuts)):
            region[rows, columns] = number
        seen = torch.zeros(ids.numel(), ids.numel(), dtype=torch.bool)
        for tokens, of in zip(windows(ids, window), windows(region, window), strict=True):
            seen[tokens[:, None], tokens] = of[:, None] == of
        assert torch.equal(found(masks.blocked(dims, window, shift)), seen)

    def test_the_mechanism_shifts_by_half_a_window(self):
        spec = mechanisms.shifted_windows((8, 12), (5, 4))
        assert spec.ir.branches[0].mask == masks.blocked((8, 12), (5, 4), (2, 2)).traced.expr
        whole = mechanisms.shifted_windows((4, 12), 4)
        assert whole.ir.branches[0].mask == masks.blocked((4, 12), 4, (0, 2)).traced.expr


class TestAxial:
    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_the_other_coordinates_agree(self, axis):
        dims = (3, 4, 2)
        parts = [torch.ones(n, n) if i == axis else torch.eye(n) for i, n in enumerate(dims)]
        seen = found(masks.axial(dims, axis))
        assert torch.equal(seen, product(*parts))
        assert set(seen.sum(-1).tolist()) == {dims[axis]}

    def test_it_is_attention_of_every_row(self):
        """Axial attention as it is implemented: rows go into the batch."""
        tensors = qkv(n_q=20, n_k=20)
        rows = {name: t.unflatten(2, (4, 5)).flatten(1, 2) for name, t in tensors.items()}
        expected = run(mechanisms.full(), rows).unflatten(1, (3, 4)).flatten(2, 3)
        assert torch.allclose(run(mechanisms.axial((4, 5), 1), tensors), expected)

    def test_criss_cross(self):
        seen = found(masks.axial((4, 5), 0) | masks.axial((4, 5), 1))
        point = [divmod(i, 5) for i in range(20)]
        assert seen.tolist() == [[a[0] == b[0] or a[1] == b[1] for b in point] for a in point]


class TestMaxViT:
    @pytest.mark.parametrize(("dims", "size"), [((8, 12), (4, 4)), ((6, 10), (3, 2)), ((6, 6), (1, 6))])
    def test_grid_partition(self, dims, size):
        """MaxViT's grid_partition: (G, H / G, G, W / G) -> (H / G, W / G, G, G)."""
        (h, w), (g, k) = dims, size
        ids = torch.arange(h * w).view(g, h // g, k, w // k).permute(1, 3, 0, 2).reshape(-1, g * k)
        seen = found(masks.maxvit_grid(dims, size))
        assert torch.equal(seen, groups(ids, h * w))
        assert set(seen.sum(-1).tolist()) == {g * k}

    def test_it_is_a_dilated_neighborhood(self):
        assert torch.equal(found(masks.maxvit_grid((8, 12), 4)), found(masks.neighborhood((8, 12), 4, dilation=(2, 3))))


class TestSlidingTile:
    @pytest.mark.parametrize(
        ("dims", "tile", "window"),
        [
            ((12, 8), (3, 2), (1, 3)),
            ((12, 8), (3, 2), (2, 4)),  # even: one tile more, or all
            ((12, 8), (2, 8), (5, 1)),
            ((6, 4, 10), (3, 2, 2), (2, 1, 3)),
            ((20,), (2,), (7,)),
        ],
    )
    def test_the_released_code(self, dims, tile, window):
        """support_flex_sta.py: the centre is clamped (the upper end last), and tiles within window // 2 are seen."""

        def axis(length, t, k):
            tiles = length // t

            def see(i, j):
                centre = min(max(i // t, k // 2), tiles - 1 - k // 2)
                return abs(centre - j // t) <= k // 2

            return along(length, see)

        expected = product(*(axis(*row) for row in zip(dims, tile, window, strict=True)))
        assert torch.equal(found(masks.sliding_tile(dims, tile, window)), expected)

    def test_odd_windows_are_neighborhoods_with_a_stride(self):
        sta = masks.sliding_tile((12, 20), (3, 4), (1, 3))
        assert torch.equal(found(sta), found(masks.neighborhood((12, 20), (3, 12), stride=(3, 4))))
        assert set(found(sta).sum(-1).tolist()) == {3 * 12}

    def test_windows_of_each_head(self):
        window = torch.tensor([1, 3, 5])
        seen = dense(masks.sliding_tile((10, 6), 2, (window, 3)), 60, 60, h=3)[0]
        for h, n in enumerate(window.tolist()):
            assert torch.equal(seen[h], found(masks.sliding_tile((10, 6), 2, (n, 3))))

    def test_text_keys(self):
        spec = mechanisms.sliding_tile((4, 6), 2, 1, extra_keys=True)
        assert [i.name for i in spec.inputs_needed] == ["extra_k", "extra_v"]


class TestFreeSwim:
    def test_an_inward_window_in_all_frames_with_its_scale(self):
        def inward(length, r):
            return along(length, lambda i, j: abs(j - min(max(i, r), length - 1 - r)) <= r)

        tensors = qkv(n_q=2 * 5 * 7, n_k=2 * 5 * 7)
        seen = product(torch.ones(2, 2), inward(5, 1), inward(7, 2))
        scale = (torch.tensor(2 * 1560.0).double().log() / torch.tensor(1560.0).double().log() / 8).sqrt()
        s = torch.where(seen, tensors["q"] @ tensors["k"].mT * scale, -torch.inf)
        spec = mechanisms.freeswim((2, 5, 7), (1, 2))
        assert torch.allclose(run(spec, tensors), torch.softmax(s, -1) @ tensors["v"])

    def test_tokens_of_training(self):
        spec = mechanisms.freeswim((2, 5, 7), 1, tokens=100, trained_tokens=10)
        assert str(spec).count(f"scale: {2**0.5!r} * rsqrt(to_float(d))") == 1


BAD = [
    (lambda: masks.blocked((8, 8), (4, 9)), r"window\[1\]: got 9; allowed: 1 .. 8 in dimension 1 of length 8"),
    (lambda: masks.blocked((8, 8), 4, (0, 4)), r"shift\[1\]: got 4; allowed: 0 .. 3 \(less than its window\)"),
    (lambda: masks.blocked((8, 8), (4, 4, 4)), r"window: got 3 values \(4, 4, 4\); allowed: one, or one for each of 2"),
    (lambda: masks.axial(8, 0), "dims: got 8; allowed: 2 or 3 integers >= 1"),
    (lambda: masks.axial((8, 8), 2), "axis: got 2; allowed: an integer in 0 .. 1"),
    (
        lambda: masks.maxvit_grid((8, 12), (4, 5)),
        r"size\[1\]: got 5; allowed: a divisor of 12, the length of dimension 1: 1, 2, 3, 4, 6, 12",
    ),
    (lambda: masks.sliding_tile((8, 12), (3, 2), 1), r"tile\[0\]: got 3; allowed: a divisor of 8, the length of"),
    (lambda: masks.sliding_tile((8, 12), 2, (5, 1)), r"window\[0\]: got 5; allowed: 1 .. 4, the tiles of dimension 0"),
    (
        lambda: masks.sliding_tile((8, 12), 2, (torch.tensor([1, 6]), 1)),
        r"window\[0\]: got 6 for head 1; allowed: 1 .. 4, the tiles of dimension 0",
    ),
    (lambda: mechanisms.freeswim((4, 8), 1), r"dims: got \(4, 8\); allowed: 3 integers, \(frames, height, width\)"),
    (lambda: mechanisms.freeswim((4, 8, 9), 4), r"radius\[0\]: got 4; allowed: 1 .. 3 in dimension 1 of length 8"),
    (lambda: mechanisms.freeswim((4, 8, 9), 1, tokens=1), "tokens: got 1; allowed: an integer >= 2"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=range(len(BAD)))
def test_bad_arguments(make, message):
    with pytest.raises(SpecError, match=message):
        make()
