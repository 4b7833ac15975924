"""Block tables: every visible key is in a tile that the kernel visits once, and tiles without a mask are full."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from attngen.codegen.analysis import Sizes, schedule
from attngen.codegen.backends.triton.tables import key_tiles
from attngen.ir.expr import Expr, const, op, sym
from attngen.ir.nodes import Sequence

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
