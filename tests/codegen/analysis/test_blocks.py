"""Masks made of blocks: which are, and their tables beside brute force and bisection."""

from __future__ import annotations

import tracemalloc
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attngen.codegen.analysis import Arrays, Schedule, Sizes, schedule
from attngen.codegen.analysis.blocks import Blocks, blocks_of, common_blocks
from attngen.ir.expr import Expr, const, load, op, sym
from attngen.ir.nodes import Sequence
from tests.codegen.analysis.dense import visible
from tests.codegen.analysis.strategies import thorough

Q, KV = sym("q"), sym("kv")


def of(position: Expr, size: int) -> Expr:
    return op("floordiv", position, size)


def entry(q: int, k: int) -> Expr:
    """The class of the blocks of a pair, as routers have it."""
    return load("table", (sym("b"), sym("h"), of(Q, q), of(KV, k)), "int")


@pytest.mark.parametrize(
    ("mask", "blocks"),
    [
        (op("eq", of(Q, 16), of(KV, 32)), Blocks(16, 32)),
        (op("eq", entry(64, 32), 1), Blocks(64, 32)),
        (op("and", op("eq", entry(48, 32), 1), op("ne", of(Q, 32), of(KV, 20))), Blocks(16, 4)),
        # Blocks of blocks are blocks.
        (op("eq", of(of(Q, 4), 4), of(KV, 8)), Blocks(4, 8)),
        (op("lt", op("add", of(Q, 8), sym("h")), op("mul", of(KV, 8), sym("n_k"))), Blocks(8, 8)),
    ],
)
def test_blocks(mask: Expr, blocks: Blocks) -> None:
    assert blocks_of(mask) == blocks


@pytest.mark.parametrize(
    "mask",
    [
        const(True),
        op("le", KV, Q),
        op("eq", of(Q, 16), 0),  # every key alike: no block of keys
        op("eq", of(Q, 16), of(KV, -16)),
        op("eq", of(Q, 16), op("mod", KV, 16)),
        op("eq", of(Q, 16), op("floordiv", KV, load("size", (), "int"))),
        op("eq", of(Q, 16), op("floordiv", 7, KV)),
        op("and", op("eq", of(Q, 16), of(KV, 16)), load("valid", (KV,), "bool")),
        op("and", op("eq", of(Q, 16), of(KV, 16)), op("lt", op("floordiv", KV, load("size", (), "int")), 3)),
        op("and", op("eq", of(Q, 16), of(KV, 16)), op("lt", sym("q[0]"), 3)),
    ],
)
def test_no_blocks(mask: Expr) -> None:
    """Whether the symbols are one object, as in a traced function, or many."""
    assert blocks_of(mask) is None


def test_common_blocks() -> None:
    masks = [op("eq", entry(64, 32), 1), op("le", KV, Q), op("eq", entry(48, 64), 0)]
    assert common_blocks(masks) == Blocks(16, 32)
    assert common_blocks(masks[1:2]) is None


CONDITIONS = st.sampled_from(["eq", "ne", "lt", "ge"])


@st.composite
def cases(draw: st.DrawFn) -> tuple[Expr, Sizes, dict[str, Any], tuple[int, int]]:
    """A condition on a random table, sometimes with another one; sizes that are ragged; a tile that divides blocks."""
    tile = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    blocks = [tuple(draw(st.integers(1, 3)) * size for size in tile) for _ in range(2)]
    sizes = Sizes(*(draw(st.integers(0, 40)) for _ in range(2)), *(draw(st.integers(1, 3)) for _ in range(2)))
    shape = (sizes.n_b, sizes.n_h, -(-sizes.n_q // blocks[0][0]), -(-sizes.n_k // blocks[0][1]))
    random = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    table = random.integers(-1, 2, tuple(max(1, n) for n in shape)).astype(draw(st.sampled_from([np.int8, np.int64])))
    mask = op(draw(CONDITIONS), entry(*blocks[0]), draw(st.integers(-1, 1)))
    if draw(st.booleans()):
        other = op(draw(CONDITIONS), of(Q, blocks[1][0]), op("add", of(KV, blocks[1][1]), draw(st.integers(-2, 2))))
        mask = op(draw(st.sampled_from(["and", "or", "xor"])), mask, other)
    return mask, sizes, {"table": table}, tile


@thorough(150)
@given(cases())
def test_tables(case: tuple[Expr, Sizes, dict[str, Any], tuple[int, int]]) -> None:
    """What is visible is covered and nothing else, as a whole, and no neighbours are apart that could be one."""
    mask, sizes, arrays, tile = case
    assert blocks_of(mask) is not None
    found = schedule(mask, Sequence(), sizes, tile, Arrays(arrays))
    dense = visible(mask, sizes, arrays)
    for b, h in np.ndindex(sizes.n_b, sizes.n_h):
        table = found.table(b, h)
        covered = np.zeros(dense.shape[-2:], bool)
        for i in range(len(table.offsets) - 1):
            ends = [*zip(table.begin, table.end, strict=True)][table.offsets[i] : table.offsets[i + 1]]
            assert all(one[1] < other[0] for one, other in combinations(ends, 2))
            for begin, end in ends:
                assert begin % tile[1] == 0
                assert end % tile[1] == 0 or end == sizes.n_k
                covered[i * tile[0] : (i + 1) * tile[0], begin:end] = True
        assert (covered == dense[b, h]).all()
        assert table.full.all()


def test_what_is_not_known_is_looked_at_pair_by_pair() -> None:
    found: Schedule = schedule(op("eq", entry(8, 8), 1), Sequence(), Sizes(20, 20), (4, 8))
    assert found.table().begin.tolist() == [0] * 5
    assert found.table().end.tolist() == [20] * 5
    assert not found.table().full.any()


def test_heads_share_a_table_where_they_share_the_mask() -> None:
    mask = op("eq", op("mod", op("add", of(Q, 8), of(KV, 8)), 3), sym("b"))
    found = schedule(mask, Sequence(), Sizes(64, 64, 2, 3), (8, 8))
    assert found.pattern.tolist() == [[0, 0, 0], [1, 1, 1]]


def test_memory_of_many_blocks() -> None:
    """One byte for each pair of blocks that is kept, and some for those that are looked at together."""
    mask = op("eq", op("mod", op("add", of(Q, 32), op("mul", of(KV, 32), of(KV, 32))), 5), 0)
    tracemalloc.start()
    try:
        schedule(op("and", mask, op("lt", of(KV, 32), 9)), Sequence(), Sizes(1 << 16, 1 << 16), (32, 32))
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()
