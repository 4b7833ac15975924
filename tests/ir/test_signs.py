"""Spans of expressions: never wrong on random expressions, and as narrow as feature maps and masses need."""

from __future__ import annotations

import math
import random

import pytest
import torch

from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import Expr, const, load, op, sym
from attngen.ir.parse_expr import parse_expr
from attngen.ir.signs import MOST_NODES, Signs, never_negative, span_of
from attngen.ir.span import INF, LINE, Span, above, at_least, between, exactly
from tests.codegen.printers.random_trees import tree

POSITIVE = Span(0.0, INF)
KNOWN: list[tuple[str, Span]] = [
    ("where(x > 0.0, x + 1.0, exp(x))", POSITIVE),
    ("where(x > 0.0, x, expm1(x)) + 1.0", POSITIVE),
    ("1.0 + tanh(x)", between(0, 2, open=True)),
    ("0.5 * (1.0 + erf(x))", between(0, 1, open=True)),
    ("1.0 / (1.0 + exp(-x))", between(0, 1, open=True)),
    ("log(1.0 - sigmoid(x))", Span(-INF, 0.0)),
    ("-softplus(x)", Span(-INF, 0.0)),
    ("x * x", at_least(0)),
    ("x ** 4", at_least(0)),
    ("x ** 3", LINE),
    ("x ** -2", POSITIVE),
    ("relu(x) ** 1.5", at_least(0)),
    ("sqrt(x)", at_least(0)),
    ("rsqrt(x)", POSITIVE),
    ("abs(x) + 0.5", at_least(0.5)),
    ("maximum(x, 1e-30)", at_least(1e-30)),
    ("minimum(x, 0.0)", Span(-INF, 0.0, True, False)),
    ("dim_softmax(x)", between(0, 1)),
    ("floor(sigmoid(x))", between(0, 1)),
    ("sign(exp(x))", exactly(1)),
    ("where(x > 1.0 and x < 2.0, x - 1.0, 0.0)", Span(0.0, 1.0, False, True)),
    ("where(not (x > 1.0 or x < -1.0), 1.0 - abs(x), 0.0)", between(0, 1)),
    ("where(2.0 - x > 0.0, 2.0 - x, 0.0)", at_least(0)),
    ("where(-3.0 * x >= 6.0, -x, 2.0)", at_least(2)),
    ("where(exp(x) > -1.0, x * x, x)", at_least(0)),
    ("where(relu(x) > 0.0, log1p(x), 0.0)", at_least(0)),
    ("to_float(n_k) - 1.0", at_least(0)),
    ("to_float(q % 4)", Span(0.0, 4.0, False, True)),
    ("safe_div(relu(x), abs(x))", at_least(0)),
    ("x / x", LINE),
    ("log(-exp(x))", LINE),
]


@pytest.mark.parametrize(("text", "span"), KNOWN, ids=[text for text, _ in KNOWN])
def test_span(text: str, span: Span) -> None:
    assert span_of(parse_expr(text)) == span


def test_what_is_given_is_used() -> None:
    assert span_of(parse_expr("s + 1.0"), {sym("s"): at_least(0)}) == at_least(1)
    assert span_of(parse_expr("log(mass)"), {sym("mass"): above(1)}) == above(0)
    assert never_negative(sym("s"), {sym("s"): at_least(0)})
    assert not never_negative(sym("s"))


def test_conditions_are_decided_where_they_can_be() -> None:
    signs = Signs({sym("mass"): above(0)})
    assert signs.decided(parse_expr("mass > 0.0")) is True
    assert signs.decided(parse_expr("mass <= 0.0")) is False
    assert signs.decided(parse_expr("mass == 0.0 or exp(acc) < 0.0")) is False
    assert signs.decided(parse_expr("mass > 1.0")) is None


def test_inputs_can_be_anything() -> None:
    assert span_of(load("w")) == LINE
    assert span_of(load("on", (), "bool")) == between(0, 1)
    assert not never_negative(op("mul", op("exp", sym("s")), load("w")))
    assert never_negative(op("mul", op("exp", sym("s")), op("exp", load("w"))))


def close(value: float, span: Span) -> bool:
    slack = 1e-9 * (1 + abs(value))
    return span.low - slack <= value <= span.high + slack


def test_what_is_proven_holds() -> None:
    rng, told = random.Random(0), 0
    symbols = ("s", "m", "q")
    values = torch.tensor([-7.5, -2.0, -1.0, -0.3, 0.0, 0.2, 1.0, 1.5, 3.0, 20.0], dtype=torch.float64)
    env = Environment({"s": values[:, None, None], "m": values[:, None], "q": torch.arange(5)})
    for _ in range(3000):
        expr = tree(rng, "float", 4, symbols)
        span = span_of(expr)
        if span == LINE:
            continue
        told += 1
        found = evaluate(expr, env)
        # Infinities and NaN are no numbers; neither are integers that ran out of 64 bits.
        for value in found[found.isfinite() & (found.abs() < 1e15)].tolist():
            assert close(value, span), (expr, value, span)
    assert told > 800


def test_what_is_not_a_number_decides_nothing() -> None:
    # The root of a negative number is NaN, and NaN > -1 is false.
    assert span_of(parse_expr("where(sqrt(s) > -1.0, 1.0, -1.0)")) == between(-1, 1)
    assert span_of(parse_expr("where(sqrt(s) < -1.0, -1.0, 1.0)")) == exactly(1)
    assert span_of(parse_expr("where(s >= 0.0, where(sqrt(s) > -1.0, 1.0, -1.0), 1.0)")) == exactly(1)
    assert span_of(parse_expr("sign(exp(sqrt(s)))")) == between(-1, 1)


def test_spans_of_products_and_intersections() -> None:
    assert between(-1, 2) * between(-3, 1) == between(-6, 3)
    assert above(0) * at_least(0) == at_least(0)
    assert exactly(0) * LINE == exactly(0)
    assert (between(0, 1) & above(1)).empty
    assert between(0, 1) | between(3, 4, open=True) == Span(0.0, 4.0, False, True)
    assert exactly(math.nan) == LINE
    assert between(-1, 1).inverse() == LINE
    assert (-above(0)).inverse() == Span(-INF, 0.0)


def test_shared_conditions_end() -> None:
    shared: Expr = sym("s")
    for i in range(60):
        condition = op("gt", op("add", shared, load("w", (const(i),))), 0.0)
        shared = op("where", condition, op("mul", shared, 2.0), op("truediv", shared, 2.0))
    signs = Signs({})
    assert signs.of(shared) == LINE
    assert signs.tired
    assert MOST_NODES < 2**20
