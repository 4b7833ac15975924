"""Bounds of views, folded for given sizes."""

from __future__ import annotations

import pytest

from attngen.codegen.derive.fold import fold_int
from attngen.errors import SpecError
from attngen.ir.expr import Expr, const, op, sym

CASES: list[tuple[Expr, int]] = [
    (const(3), 3),
    (sym("d"), 20),
    (op("floordiv", sym("d"), 3), 6),
    (op("sub", sym("d"), op("mod", sym("d"), 8)), 16),
    (op("neg", op("floordiv", op("neg", sym("d")), 3)), 7),
    (op("maximum", op("mul", 2, 3), op("minimum", sym("d"), 9)), 9),
    (op("add", sym("d"), 1), 21),
]


@pytest.mark.parametrize(("expr", "value"), CASES, ids=[repr(v) for _, v in CASES])
def test_value(expr: Expr, value: int) -> None:
    assert fold_int(expr, {"d": 20}) == value


@pytest.mark.parametrize("expr", [sym("h"), const(1.5), op("abs", sym("score"))], ids=["symbol", "float", "operator"])
def test_what_a_view_may_not_use(expr: Expr) -> None:
    with pytest.raises(SpecError, match="a view may use integer arithmetic over d only"):
        fold_int(expr, {"d": 20})
