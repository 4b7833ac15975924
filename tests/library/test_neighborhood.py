"""Neighborhood masks against NATTEN's definition, written as loops, and against its closed-form properties."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from attngen import masks, mechanisms
from attngen.errors import SpecError
from tests.library.dense import dense, rows


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
    ({"dims": 8, "kernel_size": 2, "dilation": 5}, r"dilation\[0\]: got 5; allowed: an integer in 1 .. 4"),
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
