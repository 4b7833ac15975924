from __future__ import annotations

import numpy as np
import pytest

from attngen.codegen.analysis import Arrays
from attngen.codegen.analysis.loads import Pyramid
from attngen.ir.expr import load, sym


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 100, 257])
@pytest.mark.parametrize("ascending", [False, True])
def test_bounds_of_ranges_are_exact(length: int, ascending: bool) -> None:
    rng = np.random.default_rng(length)
    array = rng.integers(-50, 50, length)
    array = np.sort(array) if ascending else array
    first, last = np.sort(rng.integers(0, length, (2, 200)), 0)
    lo, hi = Pyramid(array).bounds((first,), (last,))
    expected = [(array[i : j + 1].min(), array[i : j + 1].max()) for i, j in zip(first, last, strict=True)]
    assert list(zip(lo, hi, strict=True)) == expected


def test_rows_of_a_matrix() -> None:
    array = np.random.default_rng(0).integers(0, 99, (3, 40))
    lo, hi = Pyramid(array).bounds((np.asarray(1), np.array([0, 5])), (np.asarray(1), np.array([3, 39])))
    assert lo.tolist() == [array[1, :4].min(), array[1, 5:].min()]
    assert hi.tolist() == [array[1, :4].max(), array[1, 5:].max()]
    lo, hi = Pyramid(array).bounds((np.asarray(0), np.asarray(5)), (np.asarray(2), np.asarray(9)))
    assert lo <= array[:, 5:10].min()
    assert hi >= array[:, 5:10].max()


def test_several_rows_that_ascend_are_not_one_that_does() -> None:
    array = np.array([[5, 6], [1, 2]])
    lo, hi = Pyramid(array).bounds((np.asarray(0), np.asarray(0)), (np.asarray(1), np.asarray(1)))
    assert (int(lo), int(hi)) == (1, 6)


def test_what_is_not_known() -> None:
    one = load("x", (sym("kv"),))
    ends = (np.asarray(0),), (np.asarray(3),)
    assert Arrays({})(one, *ends) is None
    assert Arrays({"x": np.zeros((2, 2))})(one, *ends) is None
    assert Arrays({"x": np.zeros(0)})(one, *ends) is None
