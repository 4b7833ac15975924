from __future__ import annotations

import pytest

from attngen.codegen.analysis import IndexClass, accesses
from attngen.ir.expr import Expr, load, op, sym

Q, KV, H, B = (sym(n) for n in ("q", "kv", "h", "b"))
AGE = op("sub", Q, KV)
OFFSET = load("offset", (), "int")


@pytest.mark.parametrize(
    ("indices", "expected"),
    [
        ((), IndexClass.SCALAR),
        ((op("sub", sym("n_k"), 1),), IndexClass.SCALAR),
        ((H,), IndexClass.PER_HEAD),
        ((B, H), IndexClass.PER_HEAD),
        ((B, H, Q), IndexClass.PER_QUERY),
        ((op("floordiv", Q, 64),), IndexClass.PER_QUERY),
        ((B, KV), IndexClass.PER_KEY),
        ((H, op("add", AGE, 511)), IndexClass.RELATIVE),
        ((H, op("sub", op("add", KV, OFFSET), Q)), IndexClass.RELATIVE),
        ((op("add", AGE, load("shift", (H,), "int")),), IndexClass.RELATIVE),
        ((op("add", AGE, H),), IndexClass.RELATIVE),
        ((op("minimum", op("abs", AGE), 15),), IndexClass.BUCKETED),
        ((op("mul", AGE, 2),), IndexClass.BUCKETED),
        ((op("floordiv", AGE, 2),), IndexClass.BUCKETED),
        ((op("to_int", op("log", op("to_float", op("maximum", AGE, 1)))),), IndexClass.BUCKETED),
        ((op("where", op("lt", AGE, 16), AGE, 16),), IndexClass.BUCKETED),
        ((H, load("bucket", (op("add", AGE, 511),), "int")), IndexClass.BUCKETED),
        ((op("add", Q, KV),), IndexClass.FULL_PAIR),
        ((op("sub", op("floordiv", Q, 2), op("floordiv", KV, 2)),), IndexClass.FULL_PAIR),
        ((B, H, Q, KV), IndexClass.FULL_PAIR),
        ((Q, op("add", AGE, 511)), IndexClass.FULL_PAIR),
        ((op("sub", sym("q[0]"), sym("kv[0]")), op("sub", sym("q[1]"), sym("kv[1]"))), IndexClass.RELATIVE),
        ((op("sub", sym("q[0]"), sym("kv[1]")),), IndexClass.FULL_PAIR),
        ((load("ids", (B, Q), "int"),), IndexClass.IRREGULAR),
        ((op("sub", load("position", (Q,), "int"), load("position", (KV,), "int")),), IndexClass.IRREGULAR),
    ],
)
def test_class(indices: tuple[Expr, ...], expected: IndexClass) -> None:
    (*_, found) = accesses(load("table", indices))
    assert found.load.tensor == "table"
    assert found.overall == expected
