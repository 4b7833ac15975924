"""Parsing: exact round trips of everything, defaults for what people leave out, and the texts of errors."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings

from attngen.errors import ParseError
from attngen.ir.expr import Const, Expr, const, load, op, postorder, sym
from attngen.ir.nodes import Affine, Branch, Dot, Input, Spec, View
from attngen.ir.parse import parse, parse_expr
from attngen.ir.text import text
from attngen.ir.text_expr import expr_text
from tests.ir.test_text import CASES, SOFTMAX, doubling
from tests.strategies import NAMES, PATIENT, exprs, specs

ALL = ["score", "q", "kv", "h", "q[0]", "kv[2]", "dot[7]", "q_first", "q_first[1]", "n_visible", "x", "mass"]
INPUTS = [Input(name, ("h", "?"), "float") for name in NAMES]
TYPES = {i.name: i.type for i in INPUTS}


@given(specs())
@settings(PATIENT, max_examples=60)
def test_specs_come_back_equal(spec: Spec) -> None:
    back = parse(text(spec))
    assert back == spec
    assert back.name == spec.name
    assert text(back) == text(spec)


@given(exprs("float", ALL, INPUTS, depth=6, without=frozenset(), special=True))
@settings(PATIENT, max_examples=60)
def test_expressions_come_back_equal(expr: Expr) -> None:
    assert parse_expr(expr_text(expr, TYPES), TYPES) == expr


@given(exprs("bool", ALL, INPUTS, depth=6, without=frozenset()))
@settings(PATIENT, max_examples=60)
def test_conditions_come_back_equal(expr: Expr) -> None:
    assert parse_expr(expr_text(expr, TYPES), TYPES) == expr


@pytest.mark.parametrize(("expr", "written"), CASES, ids=[case[1] for case in CASES])
def test_the_cases_of_the_printer(expr: Expr, written: str) -> None:
    assert parse_expr(written) == expr


def test_loads_keep_their_types() -> None:
    ids = load("ids", (sym("q"),), "int")
    assert expr_text(ids, {"ids": "int"}) == "ids[q]"
    assert expr_text(ids, {"ids": "float"}) == "int:ids[q]"
    assert parse_expr("int:ids[q]", {"ids": "float"}) == ids
    spec = Spec((Branch(SOFTMAX, mask=op("eq", ids, load("ids", (sym("kv"),), "int"))),), inputs=())
    assert parse(text(spec)) == spec


def test_a_shared_graph_parses_to_a_shared_graph() -> None:
    back = parse_expr(expr_text(doubling(60)))
    assert back == doubling(60)
    assert back != doubling(59)
    assert sum(1 for _ in postorder(back)) < 400


def test_a_long_chain_does_not_exhaust_the_stack() -> None:
    left: Expr = sym("score")
    right: Expr = sym("score")
    for i in range(1500):
        left, right = op("sub", left, i), op("sub", i, right)
    assert parse_expr(expr_text(left)) == left
    assert parse_expr(expr_text(right)) == right


def test_nan_comes_back() -> None:
    back = parse_expr("-nan")
    assert isinstance(back, Const)
    assert math.isnan(float(back.value))


def test_written_by_hand_with_defaults() -> None:
    spec = parse("""
        # causal softmax, everything else by default
        spec short over sequence { branch { mask: q >= kv normalizer: threshold sparse(2) } }
    """)
    (branch,) = spec.branches
    assert branch.dots == (Dot(),)
    assert (branch.v, branch.score, spec.combine) == (View("v"), sym("score"), Affine((const(1.0),)))
    assert spec.name == "short"


def test_nodes_know_where_they_were_written() -> None:
    expr = parse_expr("1.0 + tanh(score)")
    tanh = op("tanh", sym("score"))
    (found,) = [n for n in postorder(expr) if n == tanh]
    assert found.source is not None
    assert (found.source.line, found.source.column, found.source.end_column) == (1, 7, 18)


ERRORS = [
    ("q +", "line 1, column 4: expected an expression, found the end of the text\n"),
    ("1 < 2 < 3", "line 1, column 7: comparisons do not chain; write `a < b and b < c`\n"),
    ("tanhh(score)", "line 1, column 1: unknown name 'tanhh'; did you mean 'tanh'?\n"),
    ("slops[h]", "line 1, column 1: unknown name 'slops'; did you mean 'slopes'?\n"),
    ("zzz", "line 1, column 1: unknown name 'zzz'; known: slopes\n"),
    ("q + $", "line 1, column 5: unexpected character '$'\n"),
    ("q +\n  tanh(1, 2)", "line 2, column 3: tanh takes 1 arguments, got 2\n"),
    ("score and q", "line 1, column 7: and does not take (float, int)\n"),
    ("slopes[1.5]", "line 1, column 1: an index of 'slopes' is a float; indices are integers\n"),
    ("(q", "line 1, column 3: expected ')', found the end of the text\n"),
    ("q q", "line 1, column 3: expected an operator or the end, found 'q'\n"),
    ("let t = q", "line 1, column 10: expected 'in' after the binding, found the end of the text\n"),
    ("tanh", "line 1, column 1: 'tanh' is not an expression\n"),
    ("(" * 200, "line 1, column 121: nested more than 120 levels deep; bind parts with `let name = ... in`\n"),
]


@pytest.mark.parametrize(("written", "message"), ERRORS, ids=[e[0][:20] for e in ERRORS])
def test_errors_of_expressions(written: str, message: str) -> None:
    with pytest.raises(ParseError) as error:
        parse_expr(written, {"slopes": "float"})
    assert str(error.value).startswith(message)


SPEC = """\
spec a over sequence {
  branch {
    mask: q >= kv
    normalizer: threshold t(1.5)
  }
}
"""
SPEC_ERRORS = [
    (("sequence", "sequense"), "line 1, column 13: unknown space 'sequense'; did you mean 'sequence'?"),
    (("mask:", "maks:"), "line 3, column 5: unknown field of the branch 'maks'; did you mean 'mask'?"),
    (("mask:", "mask"), "line 3, column 10: expected ':' after 'mask', found 'q'"),
    (("    normalizer: threshold t(1.5)\n", ""), "line 2, column 10: the branch has no 'normalizer'"),
    (("threshold", "treshold"), "line 4, column 17: unknown kind of normalizer 'treshold'; did you mean 'threshold'?"),
    (("t(1.5)", "t(x)"), "line 4, column 29: expected alpha, found 'x'"),
    (("q >= kv", "q >= kv mask: true"), "line 3, column 19: 'mask' is given twice"),
    (("  }\n}\n", "  }\n"), "line 1, column 22: the spec is not closed: '}' is missing"),
    (("}\n}\n", "}\n} x"), "line 6, column 3: expected the end after the spec, found 'x'"),
    (("spec a", "a"), "line 1, column 1: expected 'spec' at the beginning, found 'a'"),
]


@pytest.mark.parametrize(("change", "message"), SPEC_ERRORS, ids=[e[1] for e in SPEC_ERRORS])
def test_errors_of_specs(change: tuple[str, str], message: str) -> None:
    with pytest.raises(ParseError) as error:
        parse(SPEC.replace(*change))
    assert error.value.message == message


def test_the_caret_stands_under_the_culprit() -> None:
    with pytest.raises(ParseError) as error:
        parse(SPEC.replace("q >= kv", "q >= kvv"), file="mine.spec")
    assert str(error.value) == (
        "line 3, column 16: unknown name 'kvv'; did you mean 'kv'?\n"
        '  File "mine.spec", line 3\n'
        "        mask: q >= kvv\n"
        "                   ^^^"
    )


def test_a_changed_spec_is_not_equal() -> None:
    spec = parse(SPEC)
    assert parse(SPEC.replace("q >= kv", "q > kv")) != spec
    assert parse(SPEC.replace("spec a", "spec b")) == replace(spec, name="b")
