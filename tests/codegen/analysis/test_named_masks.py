"""Masks that must be closed form, and as tight as brute force at the tile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from attngen import masks
from attngen.codegen.analysis import Arrays, AxisRanges, Sizes, closed_form, schedule, visible_count
from attngen.ir.expr import Expr, Number, load, op, sym
from attngen.ir.nodes import Grid, Sequence, Space
from attngen.masks import Mask
from tests.codegen.analysis.dense import evaluate, positions, tile_classes, visible
from tests.codegen.analysis.test_ranges import covered, sizes_of

Q, KV, N_Q, N_K, H, B = (sym(n) for n in ("q", "kv", "n_q", "n_k", "h", "b"))
W, C = load("w", (), "int"), load("c", (), "int")


def both(*parts: Expr) -> Expr:
    return parts[0] if len(parts) == 1 else op("and", parts[0], both(*parts[1:]))


def less(a: Expr, b: Expr) -> Expr:
    return op("sub", a, b)


POSITION = less(op("add", Q, N_K), N_Q)
AGE, AGE_TOP_LEFT = less(POSITION, KV), less(Q, KV)
CAUSAL, CAUSAL_TOP_LEFT = op("ge", AGE, 0), op("ge", Q, KV)


def window(left: Expr | Number, right: Expr | Number, age: Expr = AGE) -> Expr:
    return both(op("le", age, left), op("ge", op("add", age, right), 0))


def chunk(size: Expr | Number) -> Expr:
    return op("eq", op("floordiv", Q, size), op("floordiv", KV, size))


A_SHAPE = both(CAUSAL_TOP_LEFT, op("or", op("lt", KV, 30), op("lt", AGE_TOP_LEFT, 200)))
LATE = op("ge", Q, op("sub", N_Q, 100))

SEQUENCES: dict[str, Expr] = {
    "causal top left": CAUSAL_TOP_LEFT,
    "causal bottom right": CAUSAL,
    "causal as not less": op("not", op("lt", Q, KV)),
    "sliding window": both(CAUSAL, op("lt", AGE, W)),
    "sliding window top left": both(CAUSAL_TOP_LEFT, op("lt", AGE_TOP_LEFT, 100)),
    "window left right": window(70, 33),
    "symmetric": op("le", op("abs", AGE_TOP_LEFT), 100),
    "symmetric run-time": op("le", op("abs", less(KV, Q)), W),
    "prefix": op("or", CAUSAL_TOP_LEFT, op("lt", KV, W)),
    "prefix both": op("or", CAUSAL_TOP_LEFT, both(op("lt", Q, 200), op("lt", KV, 200))),
    "chunked": both(CAUSAL_TOP_LEFT, chunk(192)),
    "chunked run-time": both(CAUSAL_TOP_LEFT, chunk(C)),
    "chunk start": both(op("le", less(Q, op("mod", Q, 192)), KV), CAUSAL_TOP_LEFT),
    "chunk start by division": both(op("le", op("mul", op("floordiv", Q, C), C), KV), CAUSAL_TOP_LEFT),
    "key blocks": op("le", op("mul", op("floordiv", KV, 96), 96), Q),
    "key blocks run-time": op("le", op("mul", op("floordiv", KV, C), C), Q),
    "blocks before": op("lt", op("floordiv", KV, 96), op("floordiv", Q, 96)),
    "sinks and window": both(CAUSAL, op("or", op("lt", KV, 4), op("lt", AGE, W))),
    "lengths": op("lt", KV, load("lengths", (B,), "int")),
    "causal lengths": both(CAUSAL_TOP_LEFT, op("lt", KV, load("lengths", (B,), "int"))),
    "global keys and queries": op("or", op("or", op("lt", KV, 70), op("lt", Q, 70)), window(64, 64, AGE_TOP_LEFT)),
    "A-shape": A_SHAPE,
    "tri-shape": op("or", A_SHAPE, both(LATE, CAUSAL_TOP_LEFT)),
    "tri-shape by where": op("where", LATE, CAUSAL_TOP_LEFT, A_SHAPE),
    "per-head window": both(CAUSAL_TOP_LEFT, op("lt", AGE_TOP_LEFT, load("windows", (H,), "int"))),
    "some heads local": op("or", op("lt", H, 1), window(100, 100, AGE_TOP_LEFT)),
    "not window": op("not", window(100, 100, AGE_TOP_LEFT)),
    "anticausal": op("not", both(CAUSAL_TOP_LEFT, op("ge", AGE_TOP_LEFT, 0))),
    "two bands": op("or", window(300, -200, AGE_TOP_LEFT), window(100, 0, AGE_TOP_LEFT)),
    "xor": op("xor", CAUSAL_TOP_LEFT, op("lt", AGE_TOP_LEFT, 100)),
    "clamped": op("le", KV, op("minimum", op("maximum", Q, 200), 400)),
    "half rate": op("le", op("mul", KV, 2), Q),
    "double rate": op("le", KV, op("mul", Q, 2)),
    "shifted": op("eq", op("shr", Q, 7), op("shr", KV, 7)),
    "everything": op("ge", KV, 0),
    "nothing": op("lt", KV, 0),
}  # fmt: skip

ARRAYS: dict[str, Any] = {
    "w": 150,
    "c": 192,
    "lengths": np.array([0, 1, 333, 700]),
    "windows": np.array([1, 64, 500]),
}


@pytest.mark.parametrize("tile", [64, 128])
@pytest.mark.parametrize(("n_q", "n_k"), [(700, 700), (512, 512), (300, 700), (700, 300), (1, 130)])
@pytest.mark.parametrize("name", SEQUENCES)
def test_tiles_equal_brute_force(name: str, n_q: int, n_k: int, tile: int) -> None:
    mask, sizes = SEQUENCES[name], Sizes(n_q, n_k, 4, 3)
    ranges = closed_form(mask)
    assert ranges is not None
    assert ranges.complete
    some, every = tile_classes(visible(mask, sizes, ARRAYS), tile, tile)
    found = schedule(mask, Sequence(), sizes, (tile, tile), Arrays(ARRAYS))
    for b, h in np.ndindex(4, 3):
        visited, full = (np.zeros(some.shape[2:], bool) for _ in range(2))
        table = found.table(b, h)
        for i in range(len(table.offsets) - 1):
            for j in range(table.offsets[i], table.offsets[i + 1]):
                tiles = slice(table.begin[j] // tile, -(-table.end[j] // tile))
                visited[i, tiles], full[i, tiles] = True, table.full[j]
        assert np.array_equal(visited, some[b, h])
        assert np.array_equal(full, every[b, h])


@pytest.mark.parametrize("name", SEQUENCES)
def test_number_of_visible_keys(name: str) -> None:
    mask = SEQUENCES[name]
    count = visible_count(mask)
    if name == "key blocks run-time":
        # A run-time factor may be 0, which division cannot solve for.
        assert count is None
        return
    assert count is not None
    for sizes in (Sizes(300, 700, 4, 3), Sizes(700, 300, 4, 3)):
        dense = visible(mask, sizes, ARRAYS).sum(-1, keepdims=True)
        found = evaluate(count, positions(Sequence(), sizes), ARRAYS)
        assert np.array_equal(np.broadcast_to(found, dense.shape), dense)


def test_dilated_has_tight_ranges_and_no_full_tile() -> None:
    mask = both(op("le", op("abs", AGE_TOP_LEFT), 160), op("eq", op("mod", AGE_TOP_LEFT, 8), 0))
    ranges = closed_form(mask)
    assert ranges is not None
    assert ranges.inner == ()
    sizes = Sizes(700, 700)
    some, _ = tile_classes(visible(mask, sizes, {}), 64, 64)
    assert schedule(mask, Sequence(), sizes, (64, 64)).statistics().visited == some.sum()


def test_a_table_where_it_gains() -> None:
    ids = op("eq", load("ids", (Q,), "int"), load("ids", (KV,), "int"))
    assert closed_form(ids) is None
    assert closed_form(both(CAUSAL, ids)) is None
    for bits in (4, 6):  # blocks of 16 and 64 keys
        striped = op("eq", op("mod", op("shr", KV, bits), 2), 0)
        assert closed_form(striped) is None
        assert closed_form(both(CAUSAL_TOP_LEFT, striped)) is None
    assert_exact(both(CAUSAL_TOP_LEFT, striped), Sequence(), Sizes(700, 700), {})


def test_ranges_where_a_table_would_gain_little() -> None:
    """Blocks of 8 keys leave no tile of 64 empty, and neither does a random condition."""
    for part in (op("mod", op("floordiv", KV, 8), 3), op("mod", op("mul", Q, KV), 3)):
        ranges = closed_form(both(CAUSAL_TOP_LEFT, op("eq", part, 0)))
        assert ranges is not None
        assert not ranges.complete


def assert_exact(mask: Expr, space: Space, sizes: Sizes, arrays: dict[str, Any]) -> None:
    """The tiles that the schedule visits, and those that it calls full, are those of brute force."""
    some, every = tile_classes(visible(mask, sizes, arrays, space), 64, 64)
    found = schedule(mask, space, sizes, (64, 64), Arrays(arrays)).statistics()
    assert (found.visited, found.full) == (some.sum(), every.sum())


# --- masks of the library ---------------------------------------------------------------------------------------------

LIBRARY: dict[str, Mask] = {
    "a_shape": masks.a_shape(30, 200),
    "tri_shape": masks.tri_shape(30, 200, 100),
    "strided": masks.strided(100),
    "global_tokens": masks.global_tokens(70) | masks.window(50, 50),
    "bigbird": masks.bigbird(64),
    "blocked": masks.blocked((24, 32), (8, 8)),
    "shifted": masks.blocked((24, 32), (8, 8), (4, 4)),
    "axial": masks.axial((24, 32), 1),
    "criss-cross": masks.axial((24, 32), 0) | masks.axial((24, 32), 1),
    "maxvit_grid": masks.maxvit_grid((24, 32), 8),
    "sliding_tile": masks.sliding_tile((24, 32), (8, 8), (1, 3)),
    "window of each head": masks.neighborhood((24, 32), (torch.tensor([2, 5]), 9)),
    "tiles of each head": masks.sliding_tile((24, 32), 8, (torch.tensor([1, 3]), 3)),
}
TABLES: dict[str, Mask] = {
    "power_blocks": masks.power_blocks(64),
    "bigbird": masks.bigbird(64, torch.tensor([[[5, 9]] * 11, [[0, 2]] * 11])),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_a_mask_of_the_library_has_a_closed_form(name: str) -> None:
    mask = LIBRARY[name]
    space = Grid(mask.grid) if mask.grid else Sequence()
    assert closed_form(mask.traced.expr, space) is not None
    for n_q, n_k in [(768, 768)] if mask.grid else [(700, 700), (300, 700)]:
        assert_exact(mask.traced.expr, space, Sizes(n_q, n_k, 1, 2), inputs(mask))


@pytest.mark.parametrize("name", TABLES)
def test_a_mask_of_the_library_has_a_table(name: str) -> None:
    """More intervals than a kernel computes, or as many as data say."""
    expr = TABLES[name].traced.expr
    assert closed_form(expr) is None
    assert_exact(expr, Sequence(), Sizes(700, 700, 1, 2), inputs(TABLES[name]))


def inputs(mask: Mask) -> dict[str, Any]:
    return {name: np.asarray(binding.fetch()) for name, binding in mask.traced.bindings.items()}


# --- neighborhood attention -------------------------------------------------------------------------------------------


def neighborhood(i: int, extent: int, kernel: int, stride: int, dilation: int, causal: bool) -> Expr:
    """The window of one axis as `mechanisms-exact.md` 1.1 writes it."""
    x, y = sym(f"q[{i}]"), sym(f"kv[{i}]")
    group, q, kv = op("mod", x, dilation), op("floordiv", x, dilation), op("floordiv", y, dilation)
    length = op("add", op("to_int", op("lt", group, extent % dilation)), extent // dilation)
    into = stride - 1 if causal else stride // 2
    leader = op("minimum", op("add", op("mul", op("floordiv", q, stride), stride), into), less(length, op("abs", 1)))
    if causal:
        start = op("maximum", op("sub", leader, kernel - 1), 0)
        end = op("add", q, 1)
    else:
        start = op("minimum", op("maximum", op("sub", leader, kernel // 2), 0), op("sub", length, kernel))
        end = op("add", start, kernel)
    same = op("eq", op("mod", y, dilation), group)
    return both(op("ge", kv, start), op("lt", kv, end), *([] if dilation == 1 else [same]))


AXES = [
    (extent, kernel, stride, dilation, causal)
    for extent, kernel, stride, dilation in
    [(40, 7, 1, 1), (40, 8, 1, 1), (37, 8, 4, 1), (37, 9, 9, 1), (30, 10, 10, 1), (41, 6, 3, 1), (40, 5, 1, 3),
     (41, 6, 2, 3), (16, 16, 4, 1), (10, 4, 4, 1), (12, 2, 1, 4)]
    for causal in (False, True)
]  # fmt: skip


def check_axis(found: AxisRanges, mask: Expr, i: int, extent: int, tile: int, dilation: int) -> None:
    """One axis as a sequence: outer tiles equal brute force; inner ones too without dilation."""
    symbols = {f"q[{i}]": np.arange(extent)[:, None], f"kv[{i}]": np.arange(extent)}
    cells = np.broadcast_to(evaluate(mask, symbols, {}), (extent, extent))
    first = np.arange(0, extent, tile)
    ends = {f"q_first[{i}]": first, f"q_last[{i}]": np.minimum(first + tile, extent) - 1}
    ends |= sizes_of(Sizes(extent, extent), 0, 0)
    some, every = np.logical_or.reduceat(cells, first), np.logical_and.reduceat(cells, first)
    outer, inner = (np.broadcast_to(covered(r, ends, {}, extent), some.shape) for r in (found.outer, found.inner))
    assert not (some & ~outer).any()
    assert not (inner & ~every).any()
    if dilation == 1:
        assert np.array_equal(outer, some)
        assert np.array_equal(inner, every)
    else:
        # Within two dilations of the first and the last key at each end.
        for i in range(len(first)):
            hull, seen = np.flatnonzero(outer[i]), np.flatnonzero(some[i])
            assert seen[0] - hull[0] <= 2 * dilation
            assert hull[-1] - seen[-1] <= 2 * dilation


@pytest.mark.parametrize("tile", [1, 4, 8])
@pytest.mark.parametrize(("extent", "kernel", "stride", "dilation", "causal"), AXES)
def test_neighborhood_of_one_axis(
    extent: int, kernel: int, stride: int, dilation: int, causal: bool, tile: int
) -> None:
    mask = neighborhood(0, extent, kernel, stride, dilation, causal)
    ranges = closed_form(mask, Grid((extent,)))
    assert ranges is not None
    check_axis(ranges.axes[0], mask, 0, extent, tile, dilation)


def test_neighborhood_of_two_and_three_axes() -> None:
    for dims in ((37, 40), (16, 41, 12)):
        kernels = [(8, 4, 1, False), (7, 1, 1, False), (4, 2, 1, True)]
        parts = [neighborhood(i, n, *kernels[i]) for i, n in enumerate(dims)]
        ranges = closed_form(both(*parts), Grid(dims))
        assert ranges is not None
        assert len(ranges.axes) == len(dims)
        for i, (part, n) in enumerate(zip(parts, dims, strict=True)):
            check_axis(ranges.axes[i], part, i, n, 4, 1)


def test_neighborhood_in_flat_tiles() -> None:
    dims = (24, 16)
    mask = both(neighborhood(0, 24, 7, 1, 1, False), neighborhood(1, 16, 5, 1, 1, False))
    sizes = Sizes(384, 384)
    some, _ = tile_classes(visible(mask, sizes, {}, Grid(dims)), 64, 64)
    found = schedule(mask, Grid(dims), sizes, (64, 64)).statistics()
    assert found.visited == some.sum()
    assert visible_count(mask, Grid(dims)) is not None
