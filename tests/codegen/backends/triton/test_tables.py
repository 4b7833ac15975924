"""Block tables: every visible key is in a tile that the kernel visits once, and tiles without a mask are full."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attngen.codegen.analysis import Sizes, all_tiles, patterns, schedule, turned
from attngen.codegen.backends.triton.tables import DeviceTable, key_tiles
from attngen.codegen.calls.elements import Elements, later
from attngen.codegen.calls.tables import TableBuilder
from attngen.ir.expr import Expr, const, op, sym
from attngen.ir.nodes import Sequence
from tests.codegen.analysis import strategies
from tests.codegen.analysis.dense import visible
from tests.codegen.analysis.strategies import thorough

Q, KV = sym("q"), sym("kv")


def parts(mask: Expr, n_q: int, n_k: int, tile: tuple[int, int]) -> tuple[object, ...]:
    (table,) = schedule(mask, Sequence(), Sizes(n_q, n_k, 1, 1), tile).tables
    return table.offsets, table.begin, table.end, table.full, np.zeros((1, 1), np.int32)


@settings(max_examples=60, deadline=None)
@given(
    n_q=st.integers(1, 40),
    n_k=st.integers(1, 70),
    modulus=st.integers(1, 30),
    rest=st.integers(0, 5),
    tile=st.sampled_from([(8, 8), (16, 8), (8, 16)]),
    ordered=st.booleans(),
)
def test_every_key_is_visited_once(
    n_q: int, n_k: int, modulus: int, rest: int, tile: tuple[int, int], ordered: bool
) -> None:
    mask = op("lt", op("mod", op("floordiv", op("mul", Q, KV), const(9)), const(modulus)), const(rest))
    first, middle, last, index, pattern = key_tiles(parts(mask, n_q, n_k, tile), tile[1], ordered)  # type: ignore[arg-type]
    q, kv = np.arange(n_q)[:, None], np.arange(n_k)[None, :]
    dense = (q * kv // 9) % modulus < rest
    assert pattern.tolist() == [0]
    for row in range(-(-n_q // tile[0])):
        block = dense[row * tile[0] : (row + 1) * tile[0]]
        partial, full = index[first[row] : middle[row]].tolist(), index[middle[row] : last[row]].tolist()
        visited = partial + full
        assert len(set(visited)) == len(visited)
        assert partial == sorted(partial)
        assert not (ordered and full)
        for j in range(-(-n_k // tile[1])):
            keys = block[:, j * tile[1] : (j + 1) * tile[1]]
            assert j in visited or not keys.any()
            assert j not in full or (keys.all() and (j + 1) * tile[1] <= n_k)


@thorough(60)
@given(strategies.cases(grids=False), st.sampled_from([(8, 8), (16, 8), (4, 16)]), st.booleans())
def test_made_on_the_device(case: strategies.Case, tile: tuple[int, int], ordered: bool) -> None:
    """What tiles list is what is visible, also of another direction; heads that share a mask share rows."""
    tensors = {name: torch.from_numpy(np.array(a)) for name, a in case.arrays.items() if np.ndim(a)}
    for mask, sizes in ((case.mask, case.sizes), (turned(case.mask), other_way(case.sizes))):
        depends = patterns(mask)
        values = {name: later(name, tensors[name]) if name in tensors else a for name, a in case.arrays.items()}
        classes = all_tiles(mask, Sequence(), sizes, tile, Elements(values, lanes=True), depends.b, depends.h)
        builder = cast(TableBuilder, SimpleNamespace(sizes=sizes, tile=tile))
        table = DeviceTable(builder, classes, ordered, "cpu")
        first, middle, last, index, pattern = (t.numpy().reshape(-1) for t in table(tensors))
        dense = visible(mask, sizes, case.arrays)
        rows = -(-sizes.n_q // tile[0])
        assert {a.dtype for a in (first, middle, last, index, pattern)} == {np.dtype(np.int32)}
        assert len(first) == rows * len(set(pattern.tolist()))
        for b, h, i in np.ndindex(sizes.n_b, sizes.n_h, rows):
            row = pattern[b * sizes.n_h + h] * rows + i
            block = dense[b, h, i * tile[0] : (i + 1) * tile[0]]
            partial, full = index[first[row] : middle[row]].tolist(), index[middle[row] : last[row]].tolist()
            assert partial + full == [*sorted(set(partial)), *sorted(set(full))]
            assert not set(partial) & set(full)
            assert not (ordered and full)
            for j in range(-(-sizes.n_k // tile[1])):
                keys = block[:, j * tile[1] : (j + 1) * tile[1]]
                assert j in partial + full or not keys.any()
                assert j not in full or (keys.all() and (j + 1) * tile[1] <= sizes.n_k)


def other_way(sizes: Sizes) -> Sizes:
    return Sizes(sizes.n_k, sizes.n_q, sizes.n_b, sizes.n_h)
