"""What boxes visit on a grid, beside brute force."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import attngen
from attngen import masks, mechanisms
from attngen.codegen.analysis import closed_form
from attngen.codegen.analysis.boxes import best_shape, box_visits, shapes
from attngen.codegen.boxes import Boxes
from tests.library.dense import dense
from tests.strategies import PATIENT


def axes_of(spec: attngen.Spec) -> tuple:
    found = closed_form(spec.ir.branches[0].mask, spec.ir.space)
    assert found is not None
    assert found.axes
    return found.axes


def box_numbers(boxes: Boxes) -> np.ndarray:
    """The box of every token, row by row."""
    at = np.indices(boxes.dims).reshape(len(boxes.dims), -1)
    return np.ravel_multi_index([a // side for a, side in zip(at, boxes.sides, strict=True)], boxes.counts)


def brute(seen: np.ndarray, boxes: Boxes) -> tuple[int, int]:
    """Pairs of boxes with a visible pair of tokens, and pairs of whole boxes where all are visible."""
    of, count = box_numbers(boxes), prod(boxes.counts)
    some = np.zeros((count, count), bool)
    np.logical_or.at(some, (of[:, None], of[None, :]), seen)
    every = np.ones((count, count), bool)
    np.logical_and.at(every, (of[:, None], of[None, :]), seen)
    whole = np.bincount(of, minlength=count) == boxes.volume
    return int(some.sum()), int((every & whole[None, :]).sum())


SIZES = st.integers(1, 3).flatmap(lambda rank: st.tuples(*[st.integers(3, 12 if rank == 3 else 30)] * rank))


@given(st.data())
@PATIENT
def test_neighborhoods_beside_brute_force(data: st.DataObject) -> None:
    dims = data.draw(SIZES.filter(lambda dims: prod(dims) <= 700))
    kernel = tuple(data.draw(st.integers(2, dim)) for dim in dims)
    stride = tuple(data.draw(st.integers(1, size)) for size in kernel)
    causal = tuple(data.draw(st.booleans()) for _ in dims)
    sides = tuple(data.draw(st.sampled_from([1, 2, 4, 8])) for _ in dims)
    mask, n = masks.neighborhood(dims, kernel, stride, 1, causal), prod(dims)
    found = box_visits(axes_of(attngen.Spec(mask=mask, space=attngen.Grid(dims))), Boxes(dims, sides))
    assert found is not None
    some, every = brute(dense(mask, n, n)[0, 0].numpy(), Boxes(dims, sides))
    # Along an axis, intervals are exact; what is full may be known to the mask alone.
    assert found.visited == some
    assert found.full <= every
    assert found.tiles == prod(Boxes(dims, sides).counts) ** 2


def test_bound_is_the_share_of_visited_pairs() -> None:
    spec = mechanisms.neighborhood((64, 64), (32, 32), (32, 32))
    found = box_visits(axes_of(spec), Boxes((64, 64), (4, 8)))
    assert found is not None
    assert (found.visited, found.full, found.bound) == (4096, 4096, 4.0)


def test_shapes_of_a_volume() -> None:
    assert shapes((64, 64), 8) == [(1, 8), (2, 4), (4, 2), (8, 1)]
    assert all(prod(sides) == 32 for sides in shapes((3, 50, 7), 32))
    assert max(sides[0] for sides in shapes((3, 50, 7), 32)) == 4


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (lambda: mechanisms.neighborhood((64, 64), (31, 31)), (4, 8)),
        (lambda: mechanisms.axial((64, 64), 0), (32, 1)),
        (lambda: mechanisms.axial((64, 64), 1), (1, 32)),
        (lambda: mechanisms.neighborhood((64, 64), (3, 63)), (1, 32)),
    ],
    ids=["square", "columns", "rows", "wide"],
)
def test_the_best_shape_follows_the_mask(spec, shape: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    found = best_shape([axes_of(spec())], (64, 64), 32)
    assert found == shape


def test_a_size_that_is_not_known_gives_near_cubes() -> None:
    sizes = attngen.Spec(
        mask=masks.neighborhood((64, 64), (torch.tensor([7, 13]), torch.tensor([7, 13]))), space=attngen.Grid((64, 64))
    )
    assert box_visits(axes_of(sizes), Boxes((64, 64), (4, 8))) is None
    assert best_shape([axes_of(sizes)], (64, 64), 32) == (4, 8)


def test_every_token_is_in_one_box() -> None:
    for dims, sides in product([(5, 9), (8, 8)], [(2, 4), (4, 8)]):
        boxes = Boxes(dims, sides)
        assert boxes.tokens == boxes.volume * prod(boxes.counts) >= prod(dims)
        assert [boxes.padded(i) for i in range(2)] == [d % s != 0 for d, s in zip(dims, sides, strict=True)]
