"""Printed C++ against the evaluator, on hundreds of random expressions in a few libraries."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attngen.codegen.printers.cpp import Printer, Value, literal
from attngen.errors import UnsupportedError
from attngen.ir.expr import Expr, const, op, sym
from attngen.ir.ops import FLOAT_FUNCTIONS
from tests.codegen.printers.harness import (
    VALUES,
    build,
    defined,
    difference,
    largest,
    nudged,
    on_an_edge,
    points,
    run,
    truth,
)
from tests.codegen.printers.random_trees import ROW, trees

COUNT = 240


def no_loads(node: Expr, at: tuple[Value, ...]) -> Value:
    raise AssertionError(node)


@pytest.mark.cxx
@pytest.mark.parametrize("symbols", [None, ROW], ids=["lanes", "row"])
def test_double_precision_is_the_evaluator(symbols: tuple[str, ...] | None, tmp_path: Path) -> None:
    exprs = trees(1, COUNT) if symbols is None else trees(2, COUNT, symbols)
    library, values, compared = build(exprs, "portable", tmp_path, double=True), points(6), 0
    for i, expr in enumerate(exprs):
        expected, found = truth(expr, values), run(library, i, values)
        fine = defined(expr, values, bits=64)
        if expr.type != "float":
            # A float on the edge of a comparison may fall on either side.
            fine &= (truth(expr, nudged(values, 1e-12)) == expected) & (truth(expr, nudged(values, -1e-12)) == expected)
        compared += int(fine.sum())
        scale = 1 + largest(expr, values)
        close = ((found - expected).abs() <= 1e-12 * scale) | (found == expected) | (found.isnan() & expected.isnan())
        jumps = (truth(expr, nudged(values, 1e-12)) - expected).abs() > 1e-9 * scale
        bad = fine & ~close & ~jumps & scale.isfinite()
        assert not bad.any(), difference(expr, values, bad, found, expected)
    assert compared > 0.6 * COUNT * len(values["q"])


@pytest.mark.parametrize(
    "isa",
    [pytest.param(isa, marks=[pytest.mark.cxx, pytest.mark.isa(isa)]) for isa in ("portable", "avx2", "avx512")],
)
def test_single_precision(isa: str, tmp_path: Path) -> None:
    exprs = trees(3, COUNT)
    library, values, compared = build(exprs, isa, tmp_path, double=False), points(6), 0
    for i, expr in enumerate(exprs):
        expected, found = truth(expr, values), run(library, i, values)
        up, down = (truth(expr, nudged(values, by)) for by in (1e-5, -1e-5))
        scale = 1 + largest(expr, values)
        fine = defined(expr, values, bits=32) & (scale < 1e6)
        if expr.type == "float":
            fine &= ((up - expected).abs() < 1e-3 * scale) & ((down - expected).abs() < 1e-3 * scale)
            close = (found - expected).abs() <= 2e-3 * scale
        else:
            fine &= (up == expected) & (down == expected)
            close = found == expected
        fine &= ~on_an_edge(expr, values)
        compared += int(fine.sum())
        bad = fine & ~close & ~(found.isnan() & expected.isnan())
        assert not bad.any(), difference(expr, values, bad, found, expected)
    assert compared > 0.4 * COUNT * len(values["q"])


@pytest.mark.cxx
@pytest.mark.parametrize("isa", ["portable", pytest.param("avx2", marks=pytest.mark.isa("avx2"))])
def test_functions_over_their_whole_range(isa: str, tmp_path: Path) -> None:
    names = [n for n in FLOAT_FUNCTIONS if n not in ("floor", "ceil", "round")]
    exprs = [op(name, sym("score")) for name in names]
    library, values = build(exprs, isa, tmp_path, double=False), points(40)
    special = torch.tensor(
        [0.0, -0.0, float("inf"), -float("inf"), float("nan"), 1e-40, -1e-40, 3e38, -3e38, 88.8, -104.0]
    )
    wide = torch.cat([special, torch.logspace(-30, 30, 300), -torch.logspace(-30, 30, 300)]).double()
    values["score"][: len(wide)] = wide.float().double()
    for i, (name, expr) in enumerate(zip(names, exprs, strict=True)):
        found, expected = run(library, i, values), truth(expr, values)
        far = values["score"].abs() > 1e4
        if name in ("sin", "cos"):
            found, expected = found[~far], expected[~far]
        expected = expected.float().double()
        same = (found == expected) | (found.isnan() & expected.isnan())
        near = (found - expected).abs() <= 4e-6 * expected.abs() + 2e-38
        bad = ~(same | near)
        assert not bad.any(), (
            f"{name}({values['score'][bad.nonzero()[0]].item()}) = {found[bad][0]}, {expected[bad][0]}"
        )


DIVISIONS = [op(name, a, b) for name in ("floordiv", "mod") for a, b in [
    (sym("kv"), sym("q")), (sym("q"), sym("h")), (op("sub", sym("kv"), sym("q")), sym("h")),
    (op("sub", sym("kv"), sym("q")), const(-7)), (op("mul", op("sub", sym("kv"), 150), 7000000), sym("h")),
    (op("sub", sym("kv"), 150), const(0)), (op("sub", sym("q"), 150), op("sub", sym("h"), 4)),
    (op("sub", sym("kv"), 150), op("sub", sym("kv"), sym("q"))),
]]  # fmt: skip


@pytest.mark.cxx
@pytest.mark.parametrize("double", [False, True], ids=["fp32", "fp64"])
@pytest.mark.parametrize("isa", ["portable", pytest.param("avx2", marks=pytest.mark.isa("avx2"))])
def test_integer_division_is_pythons(isa: str, double: bool, tmp_path: Path) -> None:
    library, values = build(DIVISIONS, isa, tmp_path, double=double), points(100)
    for i, expr in enumerate(DIVISIONS):
        found, expected = run(library, i, values), truth(expr, values)
        bad = found != expected
        assert not bad.any(), difference(expr, values, bad, found, expected)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (3, "int64_t(3LL)"),
        (-3, "int64_t(-3LL)"),
        (0.1, "real(0.1)"),
        (1e300, "real(1e+300)"),
        (float("inf"), "INF"),
        (-float("inf"), "(-INF)"),
        (-0.0, "real(-0.0)"),
    ],
)
def test_literals(value: float, text: str) -> None:
    assert literal(value) == text


def test_shared_nodes_are_computed_once() -> None:
    shared = op("exp", sym("score"))
    printer = Printer(VALUES, load=no_loads)
    printer.emit(op("add", shared, op("mul", shared, shared)))
    assert sum("exp(" in line for line in printer.lines) == 1


def test_a_symbol_without_a_value_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no value for 'n_q'"):
        Printer(VALUES, load=no_loads).emit(sym("n_q"))
