from __future__ import annotations

import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from attngen.codegen.analysis import Arrays, Schedule, Sizes, Table, patterns, schedule
from attngen.ir.expr import const, load, op, sym
from attngen.ir.nodes import Sequence
from tests.codegen.analysis import strategies
from tests.codegen.analysis.dense import visible
from tests.codegen.analysis.strategies import thorough

Q, KV = sym("q"), sym("kv")


def check(found: Schedule, table: Table, cells: np.ndarray) -> None:
    """The table covers what is visible, its full segments are full, no key is in it twice, its ends fit the tiles."""
    for i in range(len(table.offsets) - 1):
        row = cells[i * found.tile_q : (i + 1) * found.tile_q]
        covered = np.zeros(cells.shape[-1], int)
        reached = 0
        for j in range(table.offsets[i], table.offsets[i + 1]):
            begin, end = table.begin[j], table.end[j]
            assert reached <= begin < end
            assert begin % found.tile_k == 0
            assert end % found.tile_k == 0 or end == cells.shape[-1]
            reached = end
            covered[begin:end] += 1
            assert not table.full[j] or row[:, begin:end].all()
        assert covered.max(initial=0) <= 1
        assert not (row.any(0) & (covered == 0)).any()


@thorough(200)
@given(strategies.cases(), st.integers(1, 9), st.integers(1, 9), st.sampled_from([0, 40, 1 << 20]))
def test_covers_exactly(case: strategies.Case, tile_q: int, tile_k: int, most_nodes: int) -> None:
    loads = Arrays(case.arrays)
    found = schedule(case.mask, case.space, case.sizes, (tile_q, tile_k), loads, most_nodes=most_nodes)
    dense = visible(case.mask, case.sizes, case.arrays, case.space)
    for b, h in np.ndindex(case.sizes.n_b, case.sizes.n_h):
        check(found, found.table(b, h), dense[b, h])
    statistics = found.statistics()
    assert statistics.least_visible - 1e-9 <= dense.mean() <= statistics.most_visible + 1e-9
    assert statistics.visited == statistics.full + statistics.partial <= statistics.tiles


def test_heads_that_share_a_mask_share_a_table() -> None:
    mask = op("lt", op("sub", Q, KV), load("window", (sym("h"),), "int"))
    loads = Arrays({"window": np.array([8, 16, 8, 16])})
    found = schedule(mask, Sequence(), Sizes(64, 64, 3, 4), (8, 8), loads)
    assert len(found.tables) == 2
    assert found.pattern.tolist() == [[0, 1, 0, 1]] * 3
    assert patterns(mask).h
    assert not patterns(mask).b


def test_empty_sizes() -> None:
    for sizes in (Sizes(0, 8), Sizes(8, 0), Sizes(0, 0)):
        for mask in (op("ge", Q, KV), op("eq", load("ids", (Q,), "int"), load("ids", (KV,), "int"))):
            found = schedule(mask, Sequence(), sizes, (4, 4), Arrays({"ids": np.arange(8)}))
            assert len(found.table().begin) == 0


MILLION = 1 << 20


def peak(mask: object, arrays: dict[str, np.ndarray]) -> tuple[Schedule, float]:
    tracemalloc.start()
    try:
        found = schedule(mask, Sequence(), Sizes(MILLION, MILLION), (128, 128), Arrays(arrays))  # type: ignore[arg-type]
        return found, tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_a_million_tokens_with_a_window_stay_below_20_megabytes() -> None:
    age = op("sub", op("sub", op("add", Q, sym("n_k")), sym("n_q")), KV)
    mask = op("and", op("ge", Q, KV), op("and", op("ge", age, 0), op("lt", age, 4096)))
    found, megabytes = peak(mask, {})
    assert megabytes < 20
    assert found.statistics().visited == sum(min(i + 1, 33) for i in range(MILLION // 128))


def test_a_million_tokens_of_ten_thousand_documents_stay_below_40_megabytes() -> None:
    rng = np.random.default_rng(0)
    starts = np.zeros(MILLION, np.int64)
    starts[rng.choice(MILLION, 9999, replace=False)] = 1
    ids = np.cumsum(starts)
    found, megabytes = peak(op("eq", load("ids", (Q,), "int"), load("ids", (KV,), "int")), {"ids": ids})
    assert megabytes < 40
    # Sorted ids: tile i and tile j share a document exactly when their ranges of ids overlap.
    first, last = ids[::128], ids[127::128]
    expected = np.searchsorted(first, last, side="right") - np.searchsorted(last, first, side="left")
    assert found.statistics().visited == expected.sum()


def test_the_everything_mask_is_one_full_segment() -> None:
    found = schedule(const(True), Sequence(), Sizes(100, 100), (32, 32)).table()
    assert (found.begin.tolist(), found.end.tolist(), found.full.tolist()) == ([0] * 4, [100] * 4, [True] * 4)
