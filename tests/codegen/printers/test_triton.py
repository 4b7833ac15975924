"""Printed Triton against the evaluator, under the interpreter: random expressions, and every operator on its edges."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from attngen.codegen.printers.triton_values import Layout
from attngen.ir.expr import Expr, const, load, op, sym
from attngen.ir.ops import OPERATORS
from attngen.ir.text_expr import expr_text
from tests.codegen.printers.harness import defined, difference, largest, nudged, on_an_edge, truth
from tests.codegen.printers.random_trees import trees
from tests.codegen.printers.triton_harness import TABLE, Interpreter, Points, points
from tests.kinds import some

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
ORIENTATIONS = [pytest.param(Layout(0), id="queries-keys"), pytest.param(Layout(1), id="keys-queries")]
COUNT = 60
SYMBOLS = {
    "scalar": ("h", "n_q", "mass"),
    "row": ("q", "n_visible", "h", "m", "acc"),
    "key": ("kv", "h", "x", "mass"),
    "pair": ("q", "h", "m", "kv", "x", "score", "dim"),
}


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interpreter]:
    process = Interpreter(tmp_path_factory.mktemp("triton"))
    yield process
    process.close()


@needs_triton
@pytest.mark.parametrize("layout", ORIENTATIONS)
@pytest.mark.parametrize("symbols", some(SYMBOLS, "row", "key"))
def test_random_expressions(symbols: str, layout: Layout, interpreter: Interpreter) -> None:
    exprs = trees(7 + layout.row_axis, COUNT, SYMBOLS[symbols])
    given, compared = points(), 0
    values = given.flat
    for expr, found in zip(exprs, interpreter.run(exprs, given, layout), strict=True):
        expected = truth(expr, values)
        up, down = (truth(expr, nudged(values, by)) for by in (1e-5, -1e-5))
        scale = 1 + largest(expr, values)
        fine = defined(expr, values, bits=32) & (scale < 1e6) & ~on_an_edge(expr, values)
        if expr.type == "float":
            fine &= ((up - expected).abs() < 1e-3 * scale) & ((down - expected).abs() < 1e-3 * scale)
            close = (found - expected).abs() <= 1e-4 * scale
        else:
            fine &= (up == expected) & (down == expected)
            close = found == expected
        compared += int(fine.sum())
        bad = fine & ~close & ~(found.isnan() & expected.isnan())
        assert not bad.any(), difference(expr, values, bad, found, expected)
    assert compared > 0.4 * COUNT * len(values["q"])


INF, NAN = float("inf"), float("nan")
FLOATS = [0.0, -0.0, INF, -INF, NAN, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.3, 3.7, -3.7, 0.49999997, 7.0, -7.0]
FLOATS += [1e-30, -1e-30, 1e30, 3e38, -3e38, 88.5, -87.0, 104.0, -104.0, 8388609.0, -4194304.5, 1e-5, -1e-5, 20.25]
INTS = [0, 1, -1, 2, -2, 3, -3, 5, 7, -7, 16, 31, 32, 33, 63, 64, -64, 100, 12345, -12345, 65536, 2**20, -(2**24)]
INTS += [2**24 + 1, 123456789, -123456789, 2**30, -(2**30), 2**31 - 1, -(2**31) + 1, 10, 13]
WIDE = 32
EDGES = points(
    WIDE, WIDE, q=torch.tensor(INTS), kv=torch.tensor(INTS), n_visible=torch.tensor([5] * WIDE),
    m=torch.tensor(FLOATS), acc=torch.tensor(FLOATS).flip(0), x=torch.tensor(FLOATS),
)  # fmt: skip
ROWS = {"float": sym("m"), "int": sym("q"), "bool": op("gt", sym("acc"), 0.4)}
KEYS = {"float": sym("x"), "int": sym("kv"), "bool": op("lt", sym("x"), sym("kv"))}


def edge_cases() -> list[Expr]:
    """Every operator that has one meaning, on every pair of edges; the condition of a `where` comes from a third."""
    cases = []
    for operator in OPERATORS.values():
        if operator.name in ("uniform", "uniform_at", "dim_softmax"):
            continue
        for a in ("float", "int", "bool"):
            for b in ("float", "int", "bool") if operator.arity > 1 else ("float",):
                args = [ROWS[a], KEYS[b]][: operator.arity]
                if operator.arity == 3:
                    args = [op("ge", sym("acc"), sym("x")), *args]
                if operator.rule(tuple(e.type for e in args)) is not None:
                    cases.append(op(operator.name, *args))
    return cases


def meaningful(expr: Expr, values: dict[str, Tensor], expected: Tensor) -> Tensor:
    """Where int32 and float32 can hold what the evaluator computes."""
    fine = torch.ones(len(expected), dtype=torch.bool)
    name, args = expr.name, [truth(a, values) for a in expr.args]  # type: ignore[attr-defined]
    if expr.type == "float":
        # Integers that float32 rounds on their way in.
        fine &= torch.stack([(arg == arg.float()) | ~arg.isfinite() for arg in args]).all(0)
    if expr.type == "int":
        fine &= (expected.abs() < 2.0**31) & defined_apart_from_shifts(name, args)
    if name in ("floordiv", "mod") and expr.type == "float":
        fine &= ~((args[0] / args[1]).abs() >= 2.0**22) | (args[1] == 0)
    if name in ("lt", "le", "gt", "ge", "eq", "ne"):
        # float32 does not tell large integers apart.
        fine &= (args[0] == args[1]) | ~((args[0] - args[1]).abs() < 1e-6 * args[0].abs())
        fine &= (args[0] != args[1]) | (args[0].abs() <= 2.0**24) | ~args[0].isfinite()
    return fine


def defined_apart_from_shifts(name: str, args: list[Tensor]) -> Tensor:
    if name == "to_int":
        return args[0].abs() < 2.0**30
    if name == "shl":
        return ((args[0] * 2 ** args[1].clamp(0, 70)).abs() < 2.0**31) | (args[1] < 0)
    if name == "pow":
        return ~(args[0].abs() ** args[1] >= 2.0**31)
    return torch.ones(len(args[0]), dtype=torch.bool)


@needs_triton
@pytest.mark.parametrize("layout", ORIENTATIONS)
def test_operators_on_their_edges(layout: Layout, interpreter: Interpreter) -> None:
    cases, values, compared = edge_cases(), EDGES.flat, 0
    assert {case.name for case in cases} == set(OPERATORS) - {"uniform", "uniform_at", "dim_softmax"}  # type: ignore[attr-defined]
    for expr, found in zip(cases, interpreter.run(cases, EDGES, layout), strict=True):
        expected = truth(expr, values)
        fine = meaningful(expr, values, expected)
        if expr.type == "float":
            expected = expected.float().double()
            tolerance = 1.5e-6 * expected.abs() + 2e-38 + rounding(expr, values, expected)
            close = ((found - expected).abs() <= tolerance) | (found == expected) | (found.isnan() & expected.isnan())
        else:
            close = found == expected
        compared += int(fine.sum())
        bad = fine & ~close
        assert not bad.any(), difference(expr, values, bad, found, expected)
    assert compared > 0.8 * len(cases) * WIDE * WIDE


def rounding(expr: Expr, values: dict[str, Tensor], expected: Tensor) -> Tensor:
    """What float32 costs beyond the last digit of the result."""
    name, args = expr.name, [truth(a, values) for a in expr.args]  # type: ignore[attr-defined]
    if name == "mod":
        return torch.where(args[0].isfinite(), args[0].abs() * 2e-7, 0.0)
    if name == "pow":
        exponent = (args[1] * args[0].abs().log2()).abs()
        return expected.abs().nan_to_num(0.0) * exponent.nan_to_num(0.0, posinf=0.0) * 2e-7
    if name in ("add", "sub"):
        return torch.where(expected.isfinite(), (args[0].abs() + args[1].abs()) * 2e-7, 0.0)
    return torch.zeros_like(expected)


@needs_triton
def test_functions_over_their_whole_range(interpreter: Interpreter) -> None:
    size = 512
    wide = torch.cat([torch.logspace(-30, 30, size // 2), torch.linspace(0.01, 104, size // 2)])
    given = points(8, size, x=torch.cat([wide, -wide]).float()[::2].contiguous())
    cases = [op(n, sym("x")) for n in ("exp", "expm1", "log1p", "tanh", "sigmoid", "softplus", "erf", "round", "floor")]
    for expr, found in zip(cases, interpreter.run(cases, given, Layout()), strict=True):
        expected = truth(expr, given.flat)
        tolerance = 1e-6 * expected.abs() + 2e-38
        bad = ~(
            ((found - expected).abs() <= tolerance) | (found == expected.float()) | (found.isnan() & expected.isnan())
        )
        assert not bad.any(), difference(expr, given.flat, bad, found, expected)


@needs_triton
@pytest.mark.parametrize("layout", ORIENTATIONS)
def test_random_numbers_are_the_evaluators(layout: Layout, interpreter: Interpreter) -> None:
    rows, keys = 8, 256
    given = points(
        rows, keys, kv=torch.arange(1000, 1000 + keys), q=torch.tensor([0, 1, 5, 63, 64, 2**20, 2**31 - 1, 9])
    )
    seeds = [0, -1, 123456789012345, -(2**40), 2**63 - 1]
    exprs = [op("uniform", const(seed)) for seed in seeds]
    exprs.append(op("uniform", op("mul", sym("n_q"), 10**12)))
    exprs.append(
        op("uniform_at", 17, sym("h"), sym("b"), op("add", sym("q"), sym("n_visible")), op("floordiv", sym("kv"), 3))
    )
    exprs.append(op("uniform_at", 3, sym("q"), sym("b"), sym("h"), sym("n_q")))
    for expr, found in zip(exprs, interpreter.run(exprs, given, layout), strict=True):
        assert torch.equal(found, truth(expr, given.flat)), expr_text(expr)
    assert 0.4 < float(truth(exprs[0], given.flat).mean()) < 0.6


@needs_triton
@pytest.mark.parametrize("layout", ORIENTATIONS)
def test_loads_and_wide_scalars(layout: Layout, interpreter: Interpreter) -> None:
    given = points()
    index = op("add", op("sub", sym("q"), sym("kv")), 20)
    wide = op("mul", op("add", sym("n_q"), 1), 10**12)
    cases: list[tuple[Expr, Tensor]] = [
        (load("table", (index,)), given.table.double()[truth(index, given.flat).long().clamp(0, TABLE - 1)]),
        (load("table", (sym("h"),)), given.table.double()[given.flat["h"]]),
        *((e, truth(e, given.flat)) for e in (
            op("floordiv", wide, 7), op("mod", op("neg", wide), 1000003), op("lt", sym("q"), wide), op("shr", wide, 3),
            op("minimum", sym("kv"), wide), op("gt", sym("dim"), -(2**40)), op("pow", op("add", sym("h"), 2), 12),
        )),
    ]  # fmt: skip
    found = interpreter.run([expr for expr, _ in cases], given, layout)
    for (expr, expected), result in zip(cases, found, strict=True):
        assert torch.equal(result, expected), expr_text(expr)


def test_points_agree_in_both_forms() -> None:
    given: Points = points()
    assert all(len(t) == given.rows * given.keys for t in given.flat.values())
    assert torch.equal(given.flat["q"].view(8, 16)[:, 3], given.blocks["q"])
    assert torch.equal(given.flat["kv"].view(8, 16)[3], given.blocks["kv"])
