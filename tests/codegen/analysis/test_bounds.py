from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from attngen.codegen.analysis import Arrays, Sizes, Status, check_indices
from attngen.errors import BoundsError, Source
from attngen.ir.expr import Expr, load, op, sym
from attngen.ir.nodes import Grid
from tests.codegen.analysis import strategies
from tests.codegen.analysis.dense import evaluate, positions, visible
from tests.codegen.analysis.strategies import thorough

Q, KV, H, B = (sym(n) for n in ("q", "kv", "h", "b"))
AGE = op("sub", Q, KV)
CAUSAL = op("ge", Q, KV)


def table(index: Expr) -> Expr:
    return load("table", (H, index))


def check(
    index: Expr, extent: int, where: Expr | None = None, **arrays: object
) -> tuple[Status, int | None, int | None]:
    found = check_indices(
        [table(index)], {"table": (4, extent)}, Sizes(256, 512, 2, 4), where=where, data=Arrays(arrays)
    )
    assert found[0].status == Status.PROVEN
    return found[1].status, found[1].lo, found[1].hi


def window(left: int) -> Expr:
    return op("and", CAUSAL, op("lt", AGE, left))


@pytest.mark.parametrize(
    ("index", "extent", "where", "expected"),
    [
        (op("add", AGE, 511), 767, None, (Status.PROVEN, 0, 766)),
        (op("add", AGE, 255), 511, None, (Status.VIOLATED, -256, 510)),
        (AGE, 256, CAUSAL, (Status.PROVEN, 0, 255)),
        (AGE, 64, window(64), (Status.PROVEN, 0, 63)),
        (AGE, 64, op("not", op("or", op("lt", Q, KV), op("ge", AGE, 64))), (Status.PROVEN, 0, 63)),
        (AGE, 63, window(64), (Status.VIOLATED, 0, 63)),
        (op("floordiv", AGE, 2), 32, window(64), (Status.PROVEN, 0, 31)),
        (op("minimum", AGE, 15), 16, CAUSAL, (Status.PROVEN, 0, 15)),
        (op("abs", AGE), 65, op("le", op("abs", AGE), 64), (Status.PROVEN, 0, 64)),
        (op("add", AGE, 64), 129, op("le", op("abs", AGE), 64), (Status.PROVEN, 0, 128)),
        (KV, 512, None, (Status.PROVEN, 0, 511)),
        (op("sub", KV, 1), 512, None, (Status.VIOLATED, -1, 510)),
        (KV, 300, op("lt", KV, 300), (Status.PROVEN, 0, 299)),
        (op("mod", KV, 8), 8, None, (Status.PROVEN, 0, 7)),
    ],
)
def test_ranges(index: Expr, extent: int, where: Expr | None, expected: object) -> None:
    assert check(index, extent, where) == expected


def test_data_decides_unless_it_is_given() -> None:
    bucket = load("bucket", (op("add", AGE, 511),), "int")
    assert check(bucket, 32) == (Status.DATA_DEPENDENT, None, None)
    assert check(bucket, 32, bucket=np.arange(767) % 32) == (Status.PROVEN, 0, 31)
    assert check(bucket, 31, bucket=np.arange(767) % 32) == (Status.VIOLATED, 0, 31)
    (_, found) = check_indices([table(bucket)], {"table": (4, 32)}, Sizes(256, 512, 2, 4))
    assert found.reads == ("bucket",)


def test_run_time_scalars() -> None:
    index = op("add", AGE, load("offset", (), "int"))
    assert check(index, 767)[0] == Status.DATA_DEPENDENT
    assert check(index, 767, offset=511) == (Status.PROVEN, 0, 766)
    assert check(index, 767, offset=510) == (Status.VIOLATED, -1, 765)


def test_the_error_names_the_table_the_range_and_the_line() -> None:
    where = Source("model.py", 7, 12, 32, "    return score + table[h, q - kv + 255]")
    index = op("add", AGE, 255, source=where)
    found = check_indices([table(index)], {"table": (4, 511)}, Sizes(256, 512, 2, 4))[1]
    error = found.error("q - kv + 255")
    assert isinstance(error, BoundsError)
    assert str(error) == (
        "table has 511 entries along dimension 1; index q - kv + 255 reaches -256 .. 510 "
        "(negative indices do not count from the end; allowed: 0 .. 510)\n" + where.caret()
    )


def test_coordinates_of_a_grid() -> None:
    index = op("add", op("sub", sym("q[1]"), sym("kv[1]")), 7)
    found = check_indices([load("t", (index,))], {"t": (15,)}, Sizes(64, 64), Grid((8, 8)))
    assert (found[0].status, found[0].lo, found[0].hi) == (Status.PROVEN, 0, 14)


@thorough(200)
@given(strategies.cases(), st.data())
def test_the_range_holds_wherever_the_mask_does(case: strategies.Case, data: st.DataObject) -> None:
    index = data.draw(strategies.ints(case.space, True, 2))
    extents = {"target": (10,)}
    arrays = Arrays(case.arrays)
    for where in (None, case.mask):
        found = check_indices([load("target", (index,))], extents, case.sizes, case.space, where=where, data=arrays)
        found = [f for f in found if f.load.tensor == "target"]
        values = np.broadcast_to(
            evaluate(index, positions(case.space, case.sizes), case.arrays),
            (case.sizes.n_b, case.sizes.n_h, case.sizes.n_q, case.sizes.n_k),
        )
        if where is not None:
            values = values[visible(where, case.sizes, case.arrays, case.space)]
        assume(values.size)
        lo, hi = found[0].lo, found[0].hi
        assert lo is None or lo <= values.min()
        assert hi is None or hi >= values.max()
        if found[0].status == Status.PROVEN:
            assert values.min() >= 0
            assert values.max() < 10
