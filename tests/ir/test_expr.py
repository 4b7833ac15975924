"""The expression tree: typing, identity, sharing, walks."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings

from attngen.errors import Source, SpecError
from attngen.ir.expr import Expr, const, intern, load, loads, op, postorder, rebuild, substitute, sym, symbols
from tests.ir.test_text import doubling
from tests.strategies import PATIENT, exprs

ROOT = Path(__file__).parents[2]
HERE = Source("mine.py", 3, 8, 13, "score = score + True")


def test_operators_are_typed() -> None:
    assert op("add", sym("q"), 1).type == "int"
    assert op("add", sym("q"), 1.0).type == "float"
    assert op("add", const(True), const(True)).type == "int"
    assert op("truediv", sym("q"), 2).type == "float"
    assert op("ge", sym("q"), 0.5).type == "bool"
    assert op("where", const(True), 1, 2.0).type == "float"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: op("tan", 1.0), "'tan' is not an operator"),
        (lambda: op("exp", 1.0, 2.0), "exp takes 1 arguments, got 2"),
        (lambda: op("and", sym("q"), True), "and does not take (int, bool)"),
        (lambda: op("shl", 1.0, 2), "shl does not take (float, int)"),
        (lambda: op("where", 1, 2, 3), "where does not take (int, int, int)"),
        (lambda: load("bias", (const(0.5),)), "an index of 'bias' is a float; indices are integers"),
    ],
)
def test_wrong_operators_are_refused(build: object, message: str) -> None:
    with pytest.raises(SpecError) as error:
        build()  # type: ignore[operator]
    assert error.value.message == message


def test_an_unknown_symbol_shows_its_line() -> None:
    with pytest.raises(SpecError, match="'scor' is not a symbol") as error:
        sym("scor", HERE)
    assert str(error.value).endswith('  File "mine.py", line 3\n    score = score + True\n           ^^^^^')


def test_literals_differ_by_type_and_sign() -> None:
    values: list[bool | int | float] = [1, 1.0, True, 0.0, -0.0, 0]
    assert len({const(v) for v in values}) == len(values)
    assert const(float("nan")) == const(float("nan"))


def test_positions_do_not_take_part_in_equality() -> None:
    assert const(1.0, HERE) == const(1.0)
    assert op("neg", sym("s"), source=HERE) == op("neg", sym("s"))


def test_equality_of_shared_graphs_is_linear() -> None:
    assert doubling(200) == doubling(200)
    assert hash(doubling(200)) == hash(doubling(200))
    assert doubling(200) != doubling(199)
    assert sum(1 for _ in postorder(doubling(200))) == 201


def test_equality_of_long_chains_does_not_recurse() -> None:
    one, other = sym("s"), sym("s")
    for _ in range(20_000):
        one, other = op("add", one, 1.0), op("add", other, 1.0)  # type: ignore[assignment]
    assert one == other


def test_intern_gives_one_node_for_equal_ones() -> None:
    twice = op("add", op("exp", sym("s")), op("exp", sym("s")))
    assert len({id(n) for n in intern(twice).values()}) == 3


@given(exprs("float", ["s", "q"], depth=4))
@settings(PATIENT, max_examples=50)
def test_copies_are_equal(expr: Expr) -> None:
    assert copy.deepcopy(expr) == expr
    assert pickle.loads(pickle.dumps(expr)) == expr


def test_pickles_travel_between_processes() -> None:
    code = (
        "import pickle, sys; from attngen.ir.expr import op, sym; "
        "e = pickle.loads(bytes.fromhex(sys.argv[1])); f = op('exp', sym('s')); print(e == f, hash(e) == hash(f))"
    )
    data = pickle.dumps(op("exp", sym("s"))).hex()
    done = subprocess.run([sys.executable, "-c", code, data], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


def test_the_ir_does_not_import_torch() -> None:
    code = (
        "import sys, pkgutil, importlib, attngen.ir as room\n"
        "for m in pkgutil.iter_modules(room.__path__): importlib.import_module('attngen.ir.' + m.name)\n"
        "print([m for m in ('torch', 'numpy', 'sympy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rebuild_keeps_sharing_and_untouched_nodes() -> None:
    shared = doubling(60)
    assert rebuild(shared, lambda node: None) is shared
    changed = substitute(shared, {"score": sym("s")})
    assert symbols(changed) == {"s"}
    assert sum(1 for _ in postorder(changed)) == 61


def test_loads_and_symbols_are_listed_once() -> None:
    one = load("bias", (sym("h"),))
    expr = op("add", op("mul", one, sym("score")), load("bias", (sym("h"),)))
    assert loads(expr, None) == (one,)
    assert symbols(expr, None) == {"h", "score"}
