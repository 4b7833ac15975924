"""What structure does not show, sympy proves; what is false, it never does."""

from __future__ import annotations

import math

import pytest

from attngen.codegen.derive import algebra
from attngen.codegen.derive.shift import degree, is_invariant
from attngen.codegen.derive.symbolic import Undecided, Unknowns, cases
from attngen.ir.expr import op, sym
from attngen.ir.parse_expr import parse_expr
from attngen.ir.signs import Signs
from attngen.ir.span import LINE, above, at_least

RATES = [
    ("expm1(s - m) + 1.0", 1.0),
    ("exp(softplus(s - m)) - 1.0", 1.0),
    ("sigmoid(s - m) * (1.0 + exp(s - m))", 1.0),
    ("(1.0 + tanh(s - m)) / (1.0 - tanh(s - m))", 2.0),
    ("(exp(s - m) + exp(-m)) ** 2 - 2.0 * exp(s) * exp(-2.0 * m)", 2.0),
    ("exp2(s - m) * (sigmoid(m) + sigmoid(-m))", math.log(2)),
    ("sign(s) * (expm1(abs(s) - m) + 1.0)", 1.0),
    ("relu(expm1(s - m) + 1.0 - exp(-m))", 1.0),
    ("where(s > w[h], expm1(s - m) + 1.0, 0.0)", 1.0),
    ("exp(s - m - (s - m) * 0.5 * 2.0) * exp(w[h] - m)", 1.0),
]
NO_RATE = [
    "expm1(s - m)",
    "exp(s - m) + 1.0",
    "sigmoid(s - m)",
    "(s - m) * exp(s - m)",
    "exp(-(s - m) ** 2)",
    "exp(s - m) * (1.0 + 1e-12 * m)",
    "exp(s - m) + 1e-9 * exp(-2.0 * m)",
    "where(s > m - 2.0, exp(s - m), 0.0)",
    "relu(expm1(s - m))",
    "where(expm1(s - m) > exp(-m), exp(s - m), 0.0)",
    "where(s < 0.0, exp(s - m), exp(2.0 * (s - m)))",
    "exp(w[h] * (s - m))",
    "floor(exp(s - m))",
    "exp(abs(s - m))",
    "w[to_int(m)] * exp(s - m)",
]


@pytest.mark.parametrize(("text", "k"), RATES, ids=[text for text, _ in RATES])
def test_rate(text: str, k: float) -> None:
    expr = parse_expr(text)
    assert algebra.rate(expr, LINE) == pytest.approx(k, rel=1e-12)


def test_structure_alone_does_not_know_them() -> None:
    assert sum(degree(parse_expr(text)) is None for text, _ in RATES) >= 8


@pytest.mark.parametrize("text", NO_RATE)
def test_no_rate(text: str) -> None:
    with pytest.raises(Undecided):
        algebra.rate(parse_expr(text), LINE)


def test_zero_has_every_rate() -> None:
    assert algebra.rate(parse_expr("exp(s - m) - exp(s) * exp(-m)"), LINE) is None


def test_only_anchors_that_are_met_count() -> None:
    s = sym("s")
    for text in ("exp(minimum(s - m, 0.0))", "where(s <= m, exp(s - m), 0.0)", "exp(-abs(s - m))"):
        with pytest.raises(Undecided):
            algebra.rate(parse_expr(text), LINE)
        assert algebra.rate(parse_expr(text), LINE, s, 0.25) == 1.0
    # The largest key of a row is met.
    with pytest.raises(Undecided):
        algebra.rate(parse_expr("where(s < m, exp(s - m), 0.0)"), LINE, s, 0.0)
    assert algebra.rate(parse_expr("where(s < m, exp(s - m), 0.0)"), LINE, s, 0.25) == 1.0


def test_scores_that_are_never_negative() -> None:
    expr = parse_expr("where(s >= 0.0, exp(s - m), m)")
    assert algebra.rate(expr, at_least(0)) == 1.0
    with pytest.raises(Undecided):
        algebra.rate(expr, LINE)


@pytest.mark.parametrize(
    ("text", "k"),
    [
        ("acc / (expm1(log(mass)) + 1.0)", 1.0),
        ("sign(acc) * exp(log(abs(acc)) - log(mass))", 2.0),
        ("where(mass > 0.0, acc / mass, 0.0)", 1.0),
        ("log(exp(m) * mass) + tanh(acc / mass)", 1.0),
        ("m + log(mass) / 2.0", 2.0),
        ("softplus(m + log(mass)) + acc * exp(m)", 1.0),
    ],
)
def test_invariant(text: str, k: float) -> None:
    algebra.prove_invariant(parse_expr(text), k, above(0))


@pytest.mark.parametrize(
    ("text", "k"),
    [
        ("acc", 1.0),
        ("acc / (mass + 1e-9)", 1.0),
        ("acc / maximum(mass, 1e-9)", 1.0),
        ("m + log(mass)", 2.0),
        ("where(m > 0.0, acc / mass, 0.0)", 1.0),
        ("acc / mass + 1e-12 * m", 1.0),
        ("floor(acc)", 1.0),
    ],
)
def test_not_invariant(text: str, k: float) -> None:
    assert not is_invariant(parse_expr(text), k)
    with pytest.raises(Undecided):
        algebra.prove_invariant(parse_expr(text), k, above(0))


@pytest.mark.parametrize(
    "text",
    [
        "(s + sqrt(s * s + 4.0)) / 2.0",
        "1.0 + s + s * s / 2.0",
        "1.0 + s + s * s / 2.0 + s ** 3 / 6.0 + s ** 4 / 24.0",
        "(s - 1.0) * (s - 1.0) * (s + 3.0) ** 2",
        "exp(s) + exp(-s) - 2.0",
        "exp(s) - s - 1.0",
        "s * tanh(s)",
        "s * erf(s)",
        "where(s > 1.0, s * s - 1.0, 0.0)",
        "relu(s) * 3.0 + s * s - s + 0.25",
        "where(s > 0.0, sqrt(s * s + 1.0) - s, 1.0 - s)",
    ],
)
def test_never_negative(text: str) -> None:
    algebra.prove_never_negative(parse_expr(text), LINE)


@pytest.mark.parametrize(
    "text",
    [
        "s",
        "s * s - 1e-12",
        "exp(s) - s - 1.000001",
        "1.0 + s + s * s / 2.0 + s ** 3 / 6.0",
        "(s - 1.0) * (s - 1.0) * (s - 3.0)",
        "1.0 / s",
        "1.0 / (s - 1.0) + 5.0",
        "w[h] * s * s",
        "tanh(s)",
        "sqrt(s * s + 4.0) - s * 1.01",
    ],
)
def test_can_be_negative(text: str) -> None:
    with pytest.raises(Undecided):
        algebra.prove_never_negative(parse_expr(text), LINE)


def test_cases_cover_both_sides_and_end() -> None:
    import sympy as sp

    unknowns = Unknowns({"s": sp.Symbol("s", real=True)})
    assert len(cases(parse_expr("relu(s) + where(s > 1.0, s, 0.0)"), unknowns, Signs({}))) == 3
    many = sym("s")
    for i in range(12):
        many = op("where", parse_expr(f"s * s - {i}.5 * s > 0.0"), many, op("add", many, float(i)))
    with pytest.raises(Undecided, match="more than 64 cases"):
        cases(many, unknowns, Signs({}))
