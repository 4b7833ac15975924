"""Jumps, poles and infinite slopes are found where they are; kinks are none of them."""

from __future__ import annotations

import pytest

from attngen.codegen.derive.continuity import faults
from attngen.ir.expr import sym
from attngen.ir.parse_expr import parse_expr
from attngen.ir.span import above, at_least

FINE = [
    "relu(s)",
    "abs(s - 0.3)",
    "where(s > 0.0, s + 1.0, exp(s))",
    "where(s > 0.0, s, 0.01 * s)",
    "where(s > 2.0, exp(2.0 * s), exp(4.0))",
    "where(s > 1.0, s * s, 2.0 * s - 1.0)",
    "where(s > w[h], s, w[h])",
    "where(s > 1.2785, s, 1.27850001)",
    "minimum(maximum(s * 1e9, 0.0), 1.0)",
    "where(s == 0.0, 1.0, sin(s) / s)",
    "floor(s) + (s - floor(s))",
    "sign(s) * s",
    "sign(s) * tanh(s)",
    "where(q > 3, s, 0.5 * s)",
    "relu(s) ** p",
    "where(s > 3.0 and s < 4.0, (s - 3.0) * (4.0 - s), 0.0)",
]
WRONG = [
    ("where(s > 0.5, 1.0, 0.0)", "jumps at s = 0.5: 0 to the left, 1 to the right"),
    ("to_float(s >= -2.25)", "jumps at s = -2.25: 0 to the left, 1 to the right"),
    ("sign(s) * exp(abs(s) - m)", "jumps at s = 0: -1 to the left, 1 to the right"),
    ("floor(s + 0.5)", "jumps at s = 0.5: 0 to the left, 1 to the right"),
    ("round(2.0 * s)", "jumps at s = 0.25: 0 to the left, 1 to the right"),
    ("ceil(s)", "jumps at s = 0: 0 to the left, 1 to the right"),
    ("s % 1.0", "jumps at s = 0: 1 to the left, 0 to the right"),
    ("s // 1.0", "jumps at s = 0: -1 to the left, 0 to the right"),
    ("to_float(to_int(s))", "jumps at s = 1: 0 to the left, 1 to the right"),
    ("where(s > w[h], s, 0.0)", "jumps at s = 0.5: 0 to the left, 0.5 to the right with w[h] = 0.5"),
    ("where(q > 30, floor(s), s)", "jumps at s = 0: -1 to the left, 0 to the right with q = 31"),
    ("where(abs(s - 0.003) < 0.001, 1.0, 0.0)", "jumps at s = 0.002: 0 to the left, 1 to the right"),
    ("where(s * s * s - 2.0 > 0.0, 1.0, s)", "jumps at s = 1.25992: 1.25992 to the left, 1 to the right"),
    ("sign(s) * sign(s)", "jumps at s = 0: 0 there, 1 to the left"),
    ("safe_div(relu(s), s)", "jumps at s = 0: 0 to the left, 1 to the right"),
    ("where(s > 700.0, 1.0, 0.0)", "jumps at s = 700: 0 to the left, 1 to the right"),
    ("relu(s) ** 0.5", "has an infinite slope at s = 0"),
    ("relu(s) ** 0.9", "has an infinite slope at s = 0"),
    ("relu(s - 1.5) ** 0.5", "has an infinite slope at s = 1.5"),
    ("abs(s) ** 0.5", "has an infinite slope at s = 0"),
    ("where(s > 0.0, sqrt(s), 0.0)", "has an infinite slope at s = 0"),
    ("sqrt(s * s)", "has a slope that is not a number at s = 0"),
    ("1.0 / s", "is infinite at s = 0"),
    ("1.0 / (s - 2.0)", "is infinite at s = 2"),
    ("where(s > 0.0, safe_div(1.0, s), 0.0)", "is infinite at s = 0"),
    ("log(abs(s))", "is infinite at s = 0"),
    ("log(s)", "is not a number at s = -1"),
    ("s ** 0.5", "is not a number at s = -1"),
    ("w[to_int(s)]", "reads a table at an index that depends on s, so it is constant in pieces"),
]


@pytest.mark.parametrize("text", FINE)
def test_fine(text: str) -> None:
    assert faults(parse_expr(text), "s", {}, {"p": 3.0}, {"m": 0.0}) == []


@pytest.mark.parametrize(("text", "words"), WRONG, ids=[text for text, _ in WRONG])
def test_wrong(text: str, words: str) -> None:
    found = faults(parse_expr(text), "s", {}, {}, {"m": 0.0})
    assert found[0].words == words
    assert found[0].jump == words.startswith("jumps")


def test_every_jump_is_told() -> None:
    found = faults(parse_expr("where(s > -1.0 and s < 2.0, 1.0, 0.0)"), "s", {}, {}, {})
    assert [fault.at for fault in found] == [-1.0, 2.0]


def test_numbers_are_taken_as_they_are() -> None:
    power = parse_expr("relu(s) ** p")
    assert faults(power, "s", {}, {"p": 1.0}, {}) == []
    assert faults(power, "s", {}, {"p": 0.5}, {})[0].words == "has an infinite slope at s = 0 with p = 0.5"


def test_the_end_of_a_span_is_looked_at_from_inside() -> None:
    given = {sym("s"): at_least(0)}
    assert faults(parse_expr("sqrt(s)"), "s", given, {}, {})[0].words == "has an infinite slope at s = 0"
    assert faults(parse_expr("s ** 1.5"), "s", given, {}, {}) == []
    assert faults(parse_expr("where(s >= 0.0, s, -1.0)"), "s", given, {}, {}) == []


def test_numbers_of_a_row() -> None:
    given, others = {sym("mass"): above(0)}, {"acc": 1.0}
    assert faults(parse_expr("acc / (mass + eps)"), "mass", given, {"eps": 1e-6}, others) == []
    found = faults(parse_expr("acc / (mass - 1.0)"), "mass", given, {}, others)
    assert found[0].words == "is infinite at mass = 1"
    found = faults(parse_expr("round(acc)"), "acc", {}, {}, {})
    assert found[0].words == "jumps at acc = 0.5: 0 to the left, 1 to the right"
