"""What the Triton printer writes, and that Nvidia's tools take it ahead of time."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from functools import reduce
from pathlib import Path

import pytest

from attngen.codegen.printers.triton import PLACES, Printer, library
from attngen.codegen.printers.triton_values import Axes, Layout, Value
from attngen.errors import UnsupportedError
from attngen.ir.expr import Expr, Op, const, load, op, sym
from attngen.ir.ops import FLOAT_FUNCTIONS, OPERATORS
from attngen.ir.span import Span
from tests.codegen.printers.triton_harness import ROOT, SYMBOLS, load_table, source

LEAVES = {
    "float": (sym("score"), sym("x"), sym("m")),
    "int": (sym("dim"), sym("kv"), sym("q")),
    "bool": tuple(op("gt", sym("score"), sym(name)) for name in ("m", "x", "acc")),
}


def printed(expr: Expr, layout: Layout | None = None) -> Printer:
    printer = Printer(SYMBOLS, load_table, layout or Layout())
    printer.emit(expr)
    return printer


def test_statements_stand_where_their_values_change() -> None:
    slope = op("exp2", op("neg", op("add", sym("h"), 1)))
    row, key = op("mul", slope, sym("q")), op("mul", slope, sym("kv"))
    lines = printed(op("add", sym("score"), op("sub", row, key))).lines
    assert lines[Axes.NONE] == ["t0 = h + 1", "t1 = -t0", "t2 = tl.exp2(t1.to(tl.float32))"]
    assert lines[Axes.ROW] == ["t3 = t2 * q.to(tl.float32)"]
    assert lines[Axes.KEY] == ["t4 = t2 * kv.to(tl.float32)"]
    assert lines[Axes.PAIR] == ["t5 = t3[:, None] - t4[None, :]", "t6 = score + t5"]


def test_transposed_tiles_have_their_keys_first() -> None:
    expr = op("ge", sym("q"), sym("kv"))
    assert printed(expr).lines[Axes.PAIR] == ["t0 = q[:, None] >= kv[None, :]"]
    assert printed(expr, Layout(1)).lines[Axes.PAIR] == ["t0 = q[None, :] >= kv[:, None]"]


def test_a_running_maximum_is_a_row_vector_inside_the_loop() -> None:
    running = SYMBOLS | {"m": Value("m_i", "float", Axes.ROW, moves=Axes.KEY)}
    printer = Printer(running, load_table)
    assert printer.emit(op("mul", sym("m"), 2.0)) == Value("t0", "float", Axes.ROW, moves=Axes.KEY)
    assert [place for place in PLACES if printer.lines[place]] == [Axes.PAIR]


def test_shared_nodes_are_computed_once() -> None:
    shared = op("exp", sym("score"))
    lines = printed(op("add", shared, op("mul", shared, shared))).lines[Axes.PAIR]
    assert lines == ["t0 = exp(score)", "t1 = t0 * t0", "t2 = t0 + t1"]


def test_an_exponential_of_at_most_1_folds_its_factor() -> None:
    decay = op("exp", op("mul", -0.5, op("abs", sym("x"))))
    assert printed(decay).lines[Axes.KEY] == ["t0 = tl.abs(x)", "t1 = tl.exp2(t0 * -0.7213475204444817)"]
    shifted = op("sub", sym("score"), sym("m"))
    printer = Printer(SYMBOLS, load_table, given={shifted: Span(high=0.0)})
    printer.emit(op("exp", shifted))
    assert printer.lines[Axes.PAIR][1] == "t1 = tl.exp2(t0 * 1.4426950408889634)"


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (op("add", sym("x"), 0.1), "x + 0.1"),
        (op("add", sym("x"), 3), "x + 3.0"),
        (op("mul", sym("x"), -0.0), "x * tl.full((), -2147483648, tl.int32).to(tl.float32, bitcast=True)"),
        (op("lt", sym("x"), float("-inf")), 'x < float("-inf")'),
        (op("lt", sym("x"), 1e300), 'x < float("inf")'),
        (op("mul", sym("x"), 1e-40), "x * tl.full((), 1e-40, tl.float32)"),
        (op("lt", sym("kv"), 2**40), "kv < 2147483647"),
        (op("add", sym("kv"), 2**40 + 5), "kv + 5"),
        (op("add", sym("h"), 2**40), "h + tl.full((), 1099511627776, tl.int64)"),
        (op("lt", sym("kv"), sym("h")), "kv < saturated(h)"),
        (op("add", sym("kv"), sym("h")), "kv + h.to(tl.int32)"),
        (op("floordiv", sym("kv"), 64), "kv >> 6"),
        (op("mod", sym("kv"), 64), "kv & 63"),
        (op("mod", sym("kv"), -64), "modulo(kv, tl.full((), -64, tl.int32))"),
        (op("pow", sym("x"), 2), "x * x"),
        (op("add", const(1.0), const(2.0)), "tl.full((), 1.0, tl.float32) + tl.full((), 2.0, tl.float32)"),
    ],
)
def test_spelling(expr: Expr, text: str) -> None:
    lines = printed(expr).lines
    assert [line for place in PLACES for line in lines[place]] == [f"t0 = {text}"]


def test_whole_blocks() -> None:
    printer = Printer(SYMBOLS, load_table, Layout(1, "ROWS", "KEYS"))
    assert printer.full(SYMBOLS["m"], Axes.PAIR) == "tl.broadcast_to(m[None, :], (KEYS, ROWS))"
    assert printer.full(SYMBOLS["h"], Axes.ROW) == "tl.broadcast_to(h.to(tl.int32), (ROWS,))"
    assert printer.full(SYMBOLS["score"], Axes.PAIR) == "score"
    assert printer.full(Value("", "float", literal=1.0), Axes.KEY) == (
        "tl.broadcast_to(tl.full((), 1.0, tl.float32), (KEYS,))"
    )


def test_a_symbol_without_a_value_is_refused() -> None:
    for expr in (sym("dp"), op("uniform", 3)):
        with pytest.raises(UnsupportedError, match=r"no value for '(dp|q)'"):
            Printer({"b": SYMBOLS["b"], "h": SYMBOLS["h"]}, load_table).emit(expr)


def test_every_function_is_printed_text() -> None:
    assert library().startswith("import triton\nimport triton.language as tl\n\n\n#")
    compile(library(), "library", "exec")


def every_operator() -> list[Expr]:
    """Each operator on floats, on integers and on bools, where it takes them; on tiles, keys and rows."""
    found: list[Expr] = []
    for operator in OPERATORS.values():
        for leaves in LEAVES.values():
            args = leaves[: operator.arity]
            if operator.name == "where":
                args = (LEAVES["bool"][0], *leaves[1:])
            if operator.arity <= 3 and operator.name != "dim_softmax" and operator.rule(tuple(a.type for a in args)):
                found.append(op(operator.name, *args))
    found.append(op("uniform_at", 7, sym("b"), sym("h"), sym("q"), sym("kv")))
    found.append(load("table", (op("sub", sym("q"), sym("kv")),)))
    return found


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_ahead_of_time(tmp_path: Path) -> None:
    cases = every_operator()
    assert {case.name for case in cases if isinstance(case, Op)} == set(OPERATORS) - {"dim_softmax"}
    functions: list[Expr] = [op(n, sym("score")) for n in FLOAT_FUNCTIONS if n not in ("sin", "cos")]
    total = [reduce(lambda a, b: op("add", a, b), part) for part in (cases, functions)]
    path = tmp_path / "kernels.py"
    path.write_text(source(total, Layout()))
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    for capability in ("90", "80"):
        command = [sys.executable, "-m", "tests.codegen.printers.triton_compile", str(path), capability, "k0", "k1"]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
        assert ran.returncode == 0, ran.stderr
        built = [line.split() for line in ran.stdout.splitlines()]
        assert [name for name, _, _ in built] == ["k0", "k1"]
        assert all(int(size) > 1000 for _, size, _ in built)
        # Functions need no local memory; sin and cos would, since they reduce huge arguments through an array.
        assert int(built[1][2]) == 0
