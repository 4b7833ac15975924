"""Tile classes of tensors that come later: sound, and as tight as those of the host, on random masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attngen.codegen.analysis import Arrays, Sizes, Truth, all_tiles, patterns
from attngen.codegen.analysis.deferred import NeedsElements
from attngen.codegen.calls.elements import Elements, later
from attngen.codegen.calls.program import Program
from attngen.ir.expr import load, op, sym
from attngen.ir.nodes import Sequence
from tests.codegen.analysis import strategies
from tests.codegen.analysis.dense import tile_classes, visible
from tests.codegen.analysis.strategies import thorough
from tests.launches import Launches


def on_device(case: strategies.Case, tile: tuple[int, int], tensors: dict[str, Any]) -> list[Any]:
    """may_be_true and may_be_false of every tile, found with torch. Arrays without dimensions are run-time numbers."""
    values = {name: later(name, t) if isinstance(t, torch.Tensor) else t for name, t in tensors.items()}
    depends = patterns(case.mask)
    found = all_tiles(case.mask, case.space, case.sizes, tile, Elements(values), depends.b, depends.h)
    program = Program([found.may_be_true, found.may_be_false], "cpu")
    shape = tuple(-(-n // t) for n, t in zip((case.sizes.n_q, case.sizes.n_k), tile, strict=True))
    whole = (case.sizes.n_b, case.sizes.n_h, *shape)
    return [np.broadcast_to(t.numpy(), whole) for t in program(tensors)]


def split(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.from_numpy(np.array(a)) if np.ndim(a) else a for name, a in arrays.items()}


def of_host(case: strategies.Case, tile: tuple[int, int]) -> Truth:
    depends = patterns(case.mask)
    return all_tiles(case.mask, case.space, case.sizes, tile, Arrays(case.arrays), depends.b, depends.h)


def check(case: strategies.Case, tile: tuple[int, int]) -> None:
    """Sound, and as tight as what the host finds."""
    may_be_true, may_be_false = on_device(case, tile, split(case.arrays))
    host = of_host(case, tile)
    some, every = tile_classes(visible(case.mask, case.sizes, case.arrays, case.space), *tile)
    assert not (some & ~may_be_true).any()
    assert not (~every & ~may_be_false).any()
    assert not (may_be_true & ~np.broadcast_to(host.may_be_true, may_be_true.shape)).any()
    assert not (may_be_false & ~np.broadcast_to(host.may_be_false, may_be_false.shape)).any()


@thorough(120)
@given(strategies.cases(), st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_random_masks(case: strategies.Case, tile: tuple[int, int]) -> None:
    check(case, tile)


Q, KV, B, H = sym("q"), sym("kv"), sym("b"), sym("h")


@st.composite
def look_ups(draw: st.DrawFn) -> strategies.Case:
    """Masks that look up what tiles look up: blocks of a table, pairs of kinds, lengths of documents, elements."""
    sizes = Sizes(draw(st.integers(1, 30)), draw(st.integers(1, 30)), draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    q_block, k_block = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    blocks = (-(-sizes.n_q // q_block), -(-sizes.n_k // k_block))
    most = max(sizes.n_q, sizes.n_k)
    arrays = {
        "table": rng.integers(-1, 2, (draw(st.sampled_from([1, sizes.n_b])), sizes.n_h, *blocks)).astype(np.int8),
        "kinds": np.sort(rng.integers(0, 3, (sizes.n_b, most)), 1),
        "pairs": rng.integers(0, 2, (3, 3)).astype(bool),
        "lengths": rng.integers(0, 30, 3).astype(np.int32),
        "seen": rng.integers(0, 2, (sizes.n_q, sizes.n_k)).astype(bool),
        "distances": rng.integers(0, 3, sizes.n_q + sizes.n_k),
        "first": np.int64(draw(st.integers(0, 2))),
    }
    block = load("table", (B, H, op("floordiv", Q, q_block), op("floordiv", KV, k_block)), "int")
    kind_q, kind_k = load("kinds", (B, Q), "int"), load("kinds", (B, KV), "int")
    masks = [
        op("eq", block, draw(st.integers(-1, 1))),
        load("pairs", (kind_q, kind_k), "bool"),
        load("pairs", (load("first", (), "int"), kind_k), "bool"),
        op("lt", KV, load("lengths", (kind_q,), "int")),
        op("ge", op("sub", Q, KV), load("lengths", (op("minimum", kind_q, kind_k),), "int")),
        load("seen", (Q, KV), "bool"),
        op("gt", load("distances", (op("add", op("sub", Q, KV), op("sub", sym("n_k"), 1)),), "int"), 0),
    ]
    one, two = draw(st.sampled_from(masks)), draw(st.sampled_from(masks))
    mask = draw(st.sampled_from([one, op("and", one, two), op("or", op("not", one), two)]))
    return strategies.Case(mask, Sequence(), sizes, arrays)


@thorough(80)
@given(look_ups(), st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_look_ups(case: strategies.Case, tile: tuple[int, int]) -> None:
    check(case, tile)


@pytest.mark.parametrize("tile", [(8, 4), (4, 4), (2, 1)])
def test_tiles_that_divide_blocks_are_never_or_always_visible(tile: tuple[int, int]) -> None:
    """One look-up for each tile, and no minimum or maximum of anything."""
    table = torch.from_numpy(np.random.default_rng(0).integers(-1, 2, (2, 3, 4, 5)).astype(np.int8))
    cell = load("table", (B, H, op("floordiv", Q, 8), op("floordiv", KV, 4)), "int")
    case = strategies.Case(op("eq", cell, 1), Sequence(), Sizes(29, 18, 2, 3), {})
    with Launches() as launched:
        may_be_true, may_be_false = on_device(case, tile, {"table": table})
    assert not (may_be_true & may_be_false).any()
    rows, columns = np.arange(0, 29, tile[0]) // 8, np.arange(0, 18, tile[1]) // 4
    assert np.array_equal(may_be_true, (table == 1).numpy()[:, :, rows][:, :, :, columns])
    assert len(launched.names) <= 10
    assert not {"aten.amin.default", "aten.amax.default"} & set(launched.names)


def test_what_cannot_be_is_said() -> None:
    ids = load("ids", (Q,), "int")
    power = strategies.Case(op("eq", op("pow", KV, ids), 4), Sequence(), Sizes(9, 9), {})
    with pytest.raises(NeedsElements, match="a decision of the analysis depends on what tensors hold"):
        on_device(power, (4, 4), {"ids": torch.arange(9)})
    distance = load("distances", (op("add", ids, KV),), "int")
    far = strategies.Case(op("eq", distance, 0), Sequence(), Sizes(4096, 4096), {})
    with pytest.raises(NeedsElements, match="an index is a range that follows from what tensors hold"):
        on_device(far, (64, 64), {"ids": torch.arange(4096), "distances": torch.arange(8192)})
