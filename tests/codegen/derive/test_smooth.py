"""Continuity by structure: it never says yes to a jump, and says yes to what people write."""

from __future__ import annotations

import pytest

from attngen.codegen.derive.smooth import is_smooth
from attngen.ir.expr import sym
from attngen.ir.parse_expr import parse_expr
from attngen.ir.span import above, at_least

PROVEN = [
    "exp(s - m)",
    "relu(s) ** 2",
    "relu(s) ** 1.5",
    "s ** 3",
    "abs(exp(s - m) - exp(-m))",
    "minimum(maximum(s, -1.0), 1.0)",
    "tanh(s) / (1 + q)",
    "sqrt(s * s + 4.0)",
    "(s + sqrt(s * s + 4.0)) / 2.0",
    "log(maximum(s, 1e-30))",
    "log1p(relu(s))",
    "s / (1.0 + abs(s))",
    "where(q > 3, s, relu(s))",
    "where(exp(s) > 0.0, s, floor(s))",
    "exp(s) ** 0.5",
    "floor(w[h]) * s",
    "3.0",
]
OPEN = [
    "where(s > 0.0, s, 0.0)",
    "where(q > 3, s, floor(s))",
    "floor(s)",
    "sign(s)",
    "to_float(s > 0.0)",
    "relu(s) ** 0.5",
    "sqrt(relu(s))",
    "sqrt(s * s)",
    "1.0 / s",
    "log(s)",
    "s ** -1",
    "s ** 1.5",
    "w[to_int(s)]",
    "s % 1.0",
]


@pytest.mark.parametrize("text", PROVEN)
def test_proven(text: str) -> None:
    assert is_smooth(parse_expr(text), "s", {})


@pytest.mark.parametrize("text", OPEN)
def test_not_proven(text: str) -> None:
    assert not is_smooth(parse_expr(text), "s", {})


def test_the_span_of_the_variable_counts() -> None:
    guarded = parse_expr("acc / where(mass > 0.0, mass, 1.0)")
    assert is_smooth(guarded, "mass", {sym("mass"): above(0)})
    assert not is_smooth(guarded, "mass", {})
    assert is_smooth(parse_expr("s ** 1.5"), "s", {sym("s"): at_least(0)})
    assert not is_smooth(parse_expr("sqrt(s)"), "s", {sym("s"): at_least(0)})
