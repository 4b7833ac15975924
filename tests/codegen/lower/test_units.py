"""Units cover every query once, and none reaches over a long sequence into another one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from attngen.codegen.lower.units import HEADER, TOGETHER, Division
from tests.strategies import PATIENT

LENGTHS = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 200)), min_size=1, max_size=12)


@given(LENGTHS, st.integers(1, 64), st.integers(2, 24), st.integers(5, 16))
@PATIENT
def test_units_of_any_lengths(lengths: list[tuple[int, int]], heads: int, tile: int, tiles: int) -> None:
    q, k = (np.cumsum([0, *(pair[i] for pair in lengths)]) for i in range(2))
    division = Division(tile, tiles, heads)
    table = division.table(q, k)
    count, most = int(table[0]), int(table[1])
    starts = table[HEADER:].tolist()
    assert len(table) == HEADER + count + 1 <= division.most_entries(len(lengths), int(q[-1]))
    assert starts == sorted(set(starts))
    assert starts[-1] == q[-1]
    assert not count or starts[0] == 0
    sizes = np.diff(starts)
    assert most == max(sizes, default=0) <= tile * tiles
    for begin, end in pairwise(starts):
        inside = [i for i in range(len(lengths)) if q[i] < end and begin < q[i + 1]]
        short = [2 * lengths[i][0] <= tile and lengths[i][1] <= TOGETHER * tile for i in inside]
        assert len(inside) == 1 or all(short)


def test_long_sequences_make_tasks_enough() -> None:
    offsets = np.array([0, 5000, 9000])
    assert Division(24, 16, 64).table(offsets, offsets)[1] == 24 * 16
    assert Division(24, 16, 1).table(offsets, offsets)[1] == 144
