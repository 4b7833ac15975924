from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from attngen.codegen.analysis import Arrays, Facts, Sizes, first_unsafe_row, rows_are_safe
from attngen.ir.expr import Expr, load, op, sym
from attngen.ir.nodes import Grid, Sequence
from tests.codegen.analysis import strategies
from tests.codegen.analysis.dense import visible
from tests.codegen.analysis.strategies import thorough
from tests.codegen.analysis.test_named_masks import neighborhood

Q, KV, N_Q, N_K = (sym(n) for n in ("q", "kv", "n_q", "n_k"))
CAUSAL = op("ge", Q, KV)
AGE = op("sub", Q, KV)
BOTTOM = op("ge", op("sub", op("add", Q, N_K), N_Q), KV)
DOCUMENT = op("eq", load("ids", (Q,), "int"), load("ids", (KV,), "int"))
WINDOW = op("and", CAUSAL, op("lt", AGE, 8))


@pytest.mark.parametrize(
    ("mask", "always", "when_equal"),
    [
        (CAUSAL, True, True),
        (WINDOW, False, True),
        (BOTTOM, False, True),
        (op("ge", KV, 0), True, True),
        (op("lt", KV, 4), True, True),
        (op("lt", KV, 0), False, False),
        (op("lt", KV, load("lengths", (sym("b"),), "int")), False, False),
        (op("and", CAUSAL, DOCUMENT), False, True),
        (op("and", op("le", op("abs", AGE), 8), op("eq", op("mod", AGE, 3), 0)), False, True),
        (op("gt", KV, Q), False, False),
        (op("or", op("gt", KV, Q), op("lt", KV, 1)), True, True),
        (op("lt", AGE, load("w", (), "int")), False, False),
    ],
)
def test_whatever_the_lengths(mask: Expr, always: bool, when_equal: bool) -> None:
    assert rows_are_safe(mask) == always
    assert rows_are_safe(mask, Sequence(), Facts(equal=True)) == when_equal


def test_concrete_lengths() -> None:
    assert first_unsafe_row(BOTTOM, Sequence(), Sizes(8, 12)) is None
    assert first_unsafe_row(op("lt", AGE, 8), Sequence(), Sizes(100, 50)) == 57
    lengths = op("lt", KV, load("lengths", (sym("b"),), "int"))
    assert first_unsafe_row(lengths, Sequence(), Sizes(8, 8, 2), Arrays({"lengths": np.array([3, 1])})) is None
    assert first_unsafe_row(lengths, Sequence(), Sizes(8, 8, 2), Arrays({"lengths": np.array([3, 0])})) == 0


def test_neighborhoods_see_themselves() -> None:
    mask = op("and", neighborhood(0, 24, 7, 1, 2, False), neighborhood(1, 16, 5, 3, 1, True))
    assert first_unsafe_row(mask, Grid((24, 16)), Sizes(384, 384)) is None


@thorough(200)
@given(strategies.cases())
def test_proven_rows_see_a_key(case: strategies.Case) -> None:
    dense = visible(case.mask, case.sizes, case.arrays, case.space).any(-1).all((0, 1))
    first = first_unsafe_row(case.mask, case.space, case.sizes, Arrays(case.arrays))
    assert dense[:first].all()
    if rows_are_safe(case.mask, case.space, Facts(case.sizes.n_q == case.sizes.n_k)):
        assert dense.all()
