from __future__ import annotations

import numpy as np
import pytest

from attngen import masks
from attngen.codegen.analysis import Sizes, TileClass
from attngen.draw.cells import cells
from attngen.draw.counts import counts
from attngen.ir.nodes import Grid, Sequence

CASES = {
    "causal": (masks.causal(), 40, 33),
    "window": (masks.causal() & masks.sliding_window(5), 31, 31),
    "dilated": (masks.dilated(3, 2), 29, 29),
    "not": (~masks.causal(), 17, 40),
}


def brute(name: str) -> np.ndarray:
    q, kv = np.arange(CASES[name][1])[:, None], np.arange(CASES[name][2])
    n_q, n_k = CASES[name][1:]
    at = q + n_k - n_q
    return np.broadcast_to(
        {
            "causal": kv <= q,
            "window": (kv <= q) & (kv <= at) & (kv > at - 5),
            "dilated": (abs(at - kv) <= 6) & ((at - kv) % 2 == 0),
            "not": kv > q,
        }[name],
        (n_q, n_k),
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("cell", [(1, 1), (8, 5), (64, 64)])
def test_counts_and_classes_equal_brute_force(name: str, cell: tuple[int, int]) -> None:
    mask, n_q, n_k = CASES[name]
    seen = brute(name)
    bindings = {key: b.fetch() for key, b in mask.traced.bindings.items()}
    from attngen.codegen.analysis import Arrays

    sizes = Sizes(n_q, n_k)
    found = cells(mask.traced.expr, Sequence(), sizes, cell, loads=Arrays(bindings))
    assert found.visible() == (int(seen.sum()), int(seen.sum()))
    for (row, column), kind in np.ndenumerate(found.classes):
        part = seen[row * cell[0] : (row + 1) * cell[0], column * cell[1] : (column + 1) * cell[1]]
        wanted = TileClass.ALWAYS if part.all() else TileClass.SOMETIMES if part.any() else TileClass.NEVER
        assert kind == wanted
    exact = counts(mask.traced.expr, Sequence(), sizes, Arrays(bindings))
    if exact is not None:
        assert exact.pairs == seen.sum()
        assert (exact.fewest, exact.most) == (seen.sum(1).min(), seen.sum(1).max())


def test_a_million_tokens_stay_within_the_budget() -> None:
    mask = masks.causal()
    n = 1 << 20
    found = cells(mask.traced.expr, Sequence(), Sizes(n, n), (n // 64, n // 64))
    least, most = found.visible()
    exact = n * (n + 1) // 2
    assert least <= exact <= most
    assert (most - least) / exact < 0.001
    assert found.classes.shape == (64, 64)


def test_tiles_are_not_split() -> None:
    found = cells(masks.causal().traced.expr, Sequence(), Sizes(32, 32), (8, 8), tile=8)
    assert found.visible() == (6 * 64, 10 * 64)


def test_a_grid() -> None:
    mask = masks.neighborhood((6, 6), 3)
    found = cells(mask.traced.expr, Grid((6, 6)), Sizes(36, 36), (6, 6))
    assert found.visible() == (36 * 9, 36 * 9)
    exact = counts(mask.traced.expr, Grid((6, 6)), Sizes(36, 36))
    assert exact is not None
    assert (exact.pairs, exact.fewest, exact.most) == (36 * 9, 9, 9)
