from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from attngen.codegen.analysis import Range, Sizes, closed_form, visible_count
from attngen.ir.nodes import Grid
from tests.codegen.analysis import strategies
from tests.codegen.analysis.dense import evaluate, positions, visible
from tests.codegen.analysis.strategies import thorough


def covered(ranges: tuple[Range, ...], symbols: Mapping[str, Any], arrays: Mapping[str, Any], n_k: int) -> Any:
    """The keys in the ranges as a bool array (..., n_k), after checking that they ascend and are disjoint."""
    assert len(ranges) <= 4
    total, reached = np.zeros(n_k, bool), np.zeros(())
    for r in ranges:
        lo, hi = evaluate(r.lo, symbols, arrays), evaluate(r.hi, symbols, arrays)
        assert (lo >= 0).all()
        assert (hi <= n_k).all()
        assert ((lo >= hi) | (lo >= reached)).all()
        reached = np.where(lo < hi, hi, reached)
        total = total | ((np.arange(n_k) >= lo[..., None]) & (np.arange(n_k) < hi[..., None]))
    return total


def sizes_of(sizes: Sizes, b: Any, h: Any) -> dict[str, Any]:
    return {"n_q": sizes.n_q, "n_k": sizes.n_k, "n_b": sizes.n_b, "n_h": sizes.n_h, "b": b, "h": h}


@thorough(400)
@given(strategies.cases(data=False), st.integers(1, 9))
def test_outer_covers_and_inner_is_full(case: strategies.Case, tile: int) -> None:
    ranges = closed_form(case.mask, case.space)
    if ranges is None:
        return
    dense = visible(case.mask, case.sizes, case.arrays, case.space)
    size = case.sizes
    first = np.arange(0, size.n_q, tile)
    symbols = sizes_of(size, np.arange(size.n_b)[:, None, None], np.arange(size.n_h)[:, None])
    symbols |= {"q_first": first, "q_last": np.minimum(first + tile, size.n_q) - 1}
    some = np.logical_or.reduceat(dense, first, axis=2)
    every = np.logical_and.reduceat(dense, first, axis=2)
    assert not (some & ~covered(ranges.outer, symbols, case.arrays, size.n_k)).any()
    assert not (~every & covered(ranges.inner, symbols, case.arrays, size.n_k)).any()


@thorough(150)
@given(strategies.cases(data=False), st.data())
def test_axes_of_a_grid(case: strategies.Case, data: st.DataObject) -> None:
    assume(isinstance(case.space, Grid))
    assert isinstance(case.space, Grid)
    ranges = closed_form(case.mask, case.space)
    if ranges is None or not ranges.axes:
        return
    dims = case.space.dims
    tile = [sorted(data.draw(st.lists(st.integers(0, n - 1), min_size=2, max_size=2))) for n in dims]
    shape = (*dims, *dims)
    for b, h in np.ndindex(case.sizes.n_b, case.sizes.n_h):
        cells = visible(case.mask, case.sizes, case.arrays, case.space)[b, h].reshape(shape)
        cells = cells[tuple(slice(lo, hi + 1) for lo, hi in tile)].reshape(-1, *dims)
        symbols = sizes_of(case.sizes, b, h)
        for i, (lo, hi) in enumerate(tile):
            symbols |= {f"q_first[{i}]": lo, f"q_last[{i}]": hi}
        outer, inner = np.ones(dims, bool), np.ones(dims, bool)
        for i, axis in enumerate(ranges.axes):
            along = [1] * len(dims)
            along[i] = -1
            for total, found in ((outer, axis.outer), (inner, axis.inner)):
                total &= covered(found, symbols, case.arrays, dims[i]).reshape(along)
        assert not (cells.any(0) & ~outer).any()
        assert not (~cells.all(0) & inner).any()


@thorough(300)
@given(strategies.cases(depth=2))
def test_visible_count(case: strategies.Case) -> None:
    count = visible_count(case.mask, case.space)
    if count is None:
        return
    found = evaluate(count, positions(case.space, case.sizes), case.arrays)
    dense = visible(case.mask, case.sizes, case.arrays, case.space).sum(-1, keepdims=True)
    assert np.array_equal(np.broadcast_to(found, dense.shape), dense)
