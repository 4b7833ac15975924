from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attngen.codegen.analysis import Arrays, Sizes, TileClass, Tiles, box, classify
from attngen.ir.expr import Expr, load, op, sym
from attngen.ir.nodes import Grid, Paged, Sequence
from tests.codegen.analysis import strategies
from tests.codegen.analysis.dense import tile_classes, visible
from tests.codegen.analysis.strategies import thorough

Q, KV = sym("q"), sym("kv")


@thorough(250)
@given(strategies.cases(), st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_never_and_always_are_true(case: strategies.Case, tile_q: int, tile_k: int, per_head: bool) -> None:
    size = case.sizes
    q, k = np.arange(0, size.n_q, tile_q)[:, None], np.arange(0, size.n_k, tile_k)
    tiles = Tiles((q, np.minimum(q + tile_q, size.n_q) - 1), (k, np.minimum(k + tile_k, size.n_k) - 1))
    heads = list(product(range(size.n_b), range(size.n_h))) if per_head else [(None, None)]
    for real in (np.float64, np.float32):
        some, every = tile_classes(visible(case.mask, size, case.arrays, case.space, real), tile_q, tile_k)
        for b, h in heads:
            found = classify(case.mask, case.space, tiles, size, Arrays(case.arrays), b=b, h=h)
            of_head = (slice(None) if b is None else b, slice(None) if h is None else h)
            assert not (some[of_head] & (found == TileClass.NEVER)).any()
            assert not (~every[of_head] & (found == TileClass.ALWAYS)).any()


@thorough(100)
@given(strategies.cases(data=False), st.data())
def test_boxes_of_a_grid(case: strategies.Case, data: st.DataObject) -> None:
    if not isinstance(case.space, Grid):
        return
    ends = [sorted(data.draw(st.lists(st.integers(0, n - 1), min_size=2, max_size=2))) for n in case.space.dims * 2]
    dims = len(case.space.dims)
    tiles = box(tuple(map(tuple, ends[:dims])), tuple(map(tuple, ends[dims:])), case.space)  # type: ignore[arg-type]
    found = classify(case.mask, case.space, tiles, case.sizes, Arrays(case.arrays))
    shape = (*case.space.dims, *case.space.dims)
    for cells in visible(case.mask, case.sizes, case.arrays, case.space).reshape(-1, *shape):
        part = cells[tuple(slice(lo, hi + 1) for lo, hi in ends)]
        assert not (found == TileClass.NEVER and part.any())
        assert not (found == TileClass.ALWAYS and not part.all())


def one(mask: Expr, q: tuple[int, int], k: tuple[int, int], loads: Arrays | None = None) -> TileClass:
    return TileClass(int(classify(mask, Sequence(), Tiles(q, k), Sizes(1024, 1024), loads or Arrays({}))))


@pytest.mark.parametrize(
    ("mask", "q", "k", "expected"),
    [
        (op("ge", Q, KV), (64, 127), (0, 63), TileClass.ALWAYS),
        (op("ge", Q, KV), (64, 127), (128, 191), TileClass.NEVER),
        (op("ge", Q, KV), (64, 127), (64, 127), TileClass.SOMETIMES),
        (op("ge", op("sub", Q, KV), op("sub", Q, KV)), (0, 63), (0, 63), TileClass.ALWAYS),
        (op("eq", op("mod", op("add", op("mul", Q, 2), op("mul", KV, 4)), 2), 0), (0, 63), (0, 63), TileClass.ALWAYS),
        (op("eq", op("mod", op("floordiv", KV, 64), 2), 0), (0, 63), (64, 127), TileClass.NEVER),
        (op("eq", op("mod", op("floordiv", KV, 64), 2), 0), (0, 63), (128, 191), TileClass.ALWAYS),
        (op("le", op("sub", Q, op("mod", Q, 64)), KV), (70, 127), (64, 127), TileClass.ALWAYS),
        (op("lt", op("bit_and", KV, 127), 64), (0, 63), (64, 127), TileClass.NEVER),
        (op("lt", op("to_float", op("sub", Q, KV)), 0.5), (64, 127), (0, 63), TileClass.NEVER),
        (op("eq", op("mul", op("sub", Q, KV), 3), 1), (0, 63), (0, 63), TileClass.NEVER),
    ],
)
def test_decided(mask: Expr, q: tuple[int, int], k: tuple[int, int], expected: TileClass) -> None:
    assert one(mask, q, k) == expected


def test_comparison_with_nan_is_never_always() -> None:
    mask = op("lt", load("x", (KV,)), 5.0)
    assert one(mask, (0, 1), (0, 3), Arrays({"x": np.array([1.0, np.nan, 2.0, 3.0])})) == TileClass.SOMETIMES
    assert one(mask, (0, 1), (2, 3), Arrays({"x": np.array([1.0, np.nan, 2.0, 3.0])})) == TileClass.ALWAYS


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (op("sqrt", op("to_float", op("sub", Q, 5))), TileClass.SOMETIMES),
        (op("sqrt", op("to_float", Q)), TileClass.ALWAYS),
        (op("mul", op("exp", op("to_float", Q)), op("exp", op("mul", op("to_float", Q), -1.0))), TileClass.ALWAYS),
        (op("abs", op("sub", op("exp2", op("mul", op("to_float", Q), 1e3)), op("exp2", 1e9))), TileClass.SOMETIMES),
        (op("maximum", load("x", (KV,)), 0.0), TileClass.SOMETIMES),
        (op("tanh", op("abs", load("x", (KV,)))), TileClass.SOMETIMES),
    ],
)
def test_what_may_be_nan_is_not_at_least_zero_for_certain(value: Expr, expected: TileClass) -> None:
    assert one(op("ge", value, 0.0), (0, 9), (0, 3)) == expected


def test_unknown_tensor_is_sometimes() -> None:
    assert one(load("valid", (KV,), "bool"), (0, 1), (0, 3)) == TileClass.SOMETIMES
    assert one(op("ge", load("x", (KV,)), 5.0), (0, 1), (0, 3)) == TileClass.SOMETIMES


def test_keys_past_the_length_of_a_paged_sequence_are_absent() -> None:
    tiles = Tiles((0, 0), (np.array([0, 64]), np.array([63, 127])))
    found = classify(op("ge", KV, 0), Paged(64), tiles, Sizes(1, 128), Arrays({"kv_lengths": np.array([64])}), b=0)
    assert found.tolist() == [TileClass.ALWAYS, TileClass.NEVER]
