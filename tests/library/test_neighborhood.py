"""Neighborhood masks against NATTEN's definition, written as loops, and against its closed-form properties."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from attngen import masks, mechanisms
from attngen.errors import SpecError
from attngen.ir.evaluate import Environment, evaluate
from tests.library.dense import dense, rows, symbols


def window(x, length, kernel, stride, dilation, causal):
    """The keys of one dimension, by the definition: shift the leader's window until it fits."""
    group, i = x % dilation, x // dilation
    members = list(range(group, length, dilation))
    n = len(members)
    if causal:
        leader = min(i // stride * stride + stride - 1, n - 1)
        return [members[j] for j in range(n) if leader - kernel < j <= i]
    leader = min(i // stride * stride + stride // 2, n - 1)
    start = leader - kernel // 2
    while start < 0:
        start += 1
    while start + kernel > n:
        start -= 1
    return members[start : start + kernel]


def expected(dims, kernel, stride, dilation, causal):
    """The flat keys of every row."""
    found = []
    for point in itertools.product(*map(range, dims)):
        along = [window(*row) for row in zip(point, dims, kernel, stride, dilation, causal, strict=True)]
        flat = []
        for key in itertools.product(*along):
            index = 0
            for size, x in zip(dims, key, strict=True):
                index = index * size + x
            flat.append(index)
        found.append(sorted(flat))
    return found


CASES = [
    ((10,), (4,), (1,), (1,), (False,)),
    ((10,), (4,), (4,), (1,), (False,)),
    ((11,), (5,), (3,), (2,), (False,)),
    ((13,), (3,), (2,), (4,), (True,)),
    ((9,), (9,), (1,), (1,), (False,)),
    ((8, 8), (8, 8), (1, 1), (1, 1), (False, False)),
    ((5, 13), (5, 8), (1, 8), (1, 1), (False, False)),
    ((12, 7), (4, 3), (4, 1), (3, 1), (True, False)),
    ((9, 14), (4, 4), (1, 2), (2, 3), (False, True)),
    ((6, 5, 4), (3, 2, 4), (2, 1, 4), (1, 2, 1), (False, False, False)),
    ((4, 3, 7), (2, 3, 3), (1, 2, 3), (2, 1, 2), (True, True, True)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_definition(case):
    dims = case[0]
    total = torch.Size(dims).numel()
    assert rows(masks.neighborhood(*case), total, total) == expected(*case)


UPSTREAM = [
    ((256,), (255,), (82,), (1,)),
    ((128,), (63,), (31,), (1,)),
    ((128,), (3,), (2,), (10,)),
    ((125,), (15,), (7,), (8,)),
    ((32768,), (2048,), (256,), (1,)),
    ((5, 25), (5, 16), (1, 16), (1, 1)),
    ((84, 19), (7, 3), (1, 1), (5, 1)),
    ((19, 29), (8, 8), (1, 1), (2, 3)),
    ((67, 80), (12, 7), (8, 4), (5, 11)),
    ((36, 40), (36, 40), (12, 13), (1, 1)),
    ((32, 10, 10), (7, 3, 3), (5, 1, 1), (1, 2, 3)),
    ((18, 37, 12), (14, 16, 12), (12, 8, 1), (1, 2, 1)),
    ((13, 11, 9), (3, 4, 3), (2, 3, 3), (3, 2, 2)),
    ((8, 4, 8), (7, 3, 7), (1, 1, 1), (1, 1, 1)),
]
"""The shapes of NATTEN's own tests (tests/test_fna.py): dims, kernel sizes, strides, dilations."""


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("case", UPSTREAM, ids=str)
def test_shapes_of_upstream(case, causal):
    """Some queries of each, the first and the last among them; causal along the first and the third dimension."""
    dims, kernel, stride, dilation = case
    causal = tuple(causal and i % 2 == 0 for i in range(len(dims)))
    total = torch.Size(dims).numel()
    drawn = random.Random(total)
    points = [0, total - 1, *(drawn.randrange(total) for _ in range(40))]
    mask = masks.neighborhood(dims, kernel, stride, dilation, causal)
    found = at(mask, torch.tensor(points), total)
    for row, point in zip(found, points, strict=True):
        place = [int(i) for i in torch.unravel_index(torch.tensor(point), dims)]
        axes = [window(*axis) for axis in zip(place, dims, kernel, stride, dilation, causal, strict=True)]
        seen = torch.zeros(dims, dtype=torch.bool)
        seen[torch.meshgrid(*map(torch.tensor, axes), indexing="ij")] = True
        assert torch.equal(row, seen.flatten())


def at(mask, queries, n_k):
    """The rows of some queries."""
    named = symbols(1, n_k, grid=mask.grid)
    for i, size in reversed(list(enumerate(mask.grid))):
        named[f"q[{i}]"], queries = queries[:, None] % size, queries // size
    return evaluate(mask.traced.expr, Environment(named)).expand(len(queries), n_k)


@pytest.mark.parametrize("seed", range(20))
def test_random_dimension(seed):
    choose = random.Random(seed)
    length = choose.randint(4, 26)
    dilation = choose.randint(1, length // 2)
    kernel = choose.randint(2, length // dilation)
    stride = choose.randint(1, kernel)
    causal = choose.random() < 0.5
    found = rows(masks.neighborhood(length, kernel, stride, dilation, causal), length, length)
    assert found == expected((length,), (kernel,), (stride,), (dilation,), (causal,))
    counts = [len(row) for row in found]
    assert set(counts) == {kernel} if not causal else min(counts) >= 1


def test_without_corners_it_is_a_symmetric_window():
    inner = rows(masks.neighborhood(20, 7), 20, 20)[3:17]
    assert inner == rows(masks.window(3, 3), 20, 20)[3:17]


def test_stride_of_the_kernel_is_blocked_attention():
    found = rows(masks.neighborhood(10, 4, 4), 10, 10)
    assert found[:8] == [list(range(4))] * 4 + [list(range(4, 8))] * 4
    assert found[8:] == [[6, 7, 8, 9]] * 2


def test_kernel_size_of_each_head():
    sizes = torch.tensor([2, 3, 6])
    found = dense(masks.neighborhood((6, 7), (sizes, 3), (2, 1)), 42, 42, h=3)[0]
    for h, size in enumerate(sizes.tolist()):
        assert torch.equal(found[h], dense(masks.neighborhood((6, 7), (size, 3), (2, 1)), 42, 42)[0, 0])


@pytest.mark.parametrize("is_causal", [False, True])
def test_kernel_size_of_each_head_with_all_else(is_causal):
    sizes = torch.tensor([2, 3, 5])
    options = {"stride": 2, "dilation": 3, "is_causal": is_causal}
    found = dense(masks.neighborhood(17, [sizes], **options), 17, 17, h=3)[0]
    for h, size in enumerate(sizes.tolist()):
        assert torch.equal(found[h], dense(masks.neighborhood(17, size, **options), 17, 17)[0, 0])


def test_a_window_as_long_as_the_axis_is_no_condition():
    """NATTEN's fast path to dense attention."""
    assert masks.neighborhood((8, 9), (8, 9), (3, 4)).traced.expr == masks.full().traced.expr
    assert "q[0]" not in str(mechanisms.neighborhood((8, 9), (8, 3)))
    assert "q[0]" in str(mechanisms.neighborhood((8, 9), (8, 3), is_causal=(True, False)))


def test_grid_goes_into_the_spec():
    spec = mechanisms.neighborhood((6, 5), 3)
    assert "over grid(6, 5)" in str(spec)


def test_two_grids():
    message = r"mask: neighborhood is on the grid \(6, 5\), neighborhood on \(5, 6\); use one"
    with pytest.raises(SpecError, match=message):
        masks.neighborhood((6, 5), 3) & masks.neighborhood((5, 6), 3)


BAD = [
    ({"dims": (8, 8, 8, 8), "kernel_size": 3}, r"dims: got \(8, 8, 8, 8\); allowed: 1 to 3 integers >= 1"),
    ({"dims": (8, 1), "kernel_size": 3}, r"dims\[1\]: got 1; allowed: an integer >= 2"),
    ({"dims": (8, 8), "kernel_size": (3, 9)}, r"kernel_size\[1\]: got 9; allowed: 2 .. 8 .* dimension 1 of length 8"),
    ({"dims": (8, 8), "kernel_size": 1}, r"kernel_size\[0\]: got 1; allowed: 2 .. 8 .* dimension 0 of length 8"),
    (
        {"dims": (8, 9), "kernel_size": 4, "dilation": (2, 3)},
        r"kernel_size\[1\]: got 4; allowed: 2 .. 3 for dilation",
    ),
    (
        {"dims": 8, "kernel_size": 2, "dilation": 5},
        r"dilation\[0\]: got 5; allowed: 1 .. 4 in dimension 0 of length 8",
    ),
    (
        {"dims": (8, 9), "kernel_size": (3, torch.tensor([3, 5, 2])), "dilation": 2},
        r"kernel_size\[1\]: got 5 for head 1; allowed: 2 .. 4 for dilation 2 in dimension 1 of length 9",
    ),
    (
        {"dims": 8, "kernel_size": [torch.tensor([3, 2])], "stride": 3},
        r"stride\[0\]: got 3; allowed: 1 .. 2 \(its kernel_size\) in dimension 0 of length 8",
    ),
    (
        {"dims": 8, "kernel_size": 3, "stride": 4},
        r"stride\[0\]: got 4; allowed: 1 .. 3 \(its kernel_size\) in dim",
    ),
    ({"dims": 8, "kernel_size": 3, "stride": 0}, r"stride\[0\]: got 0; allowed: 1 .. 3"),
    (
        {"dims": (8, 8), "kernel_size": (3, 3, 3)},
        r"kernel_size: got 3 values \(3, 3, 3\); allowed: one, or one for each",
    ),
    ({"dims": 8, "kernel_size": 3, "is_causal": "yes"}, r"is_causal\[0\]: got 'yes'; allowed: True or False"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=range(len(BAD)))
def test_bad_arguments(arguments, message):
    with pytest.raises(SpecError, match=message):
        masks.neighborhood(**arguments)
