"""Factors taken out: the same numbers, with fewer operations for each pair."""

from __future__ import annotations

import torch

import attngen
from attngen import scores
from attngen.codegen.derive.factors import common_factor, gathered, with_gathered_factors
from attngen.codegen.derive.gradient import ONE
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import Expr, const, load, op, sym
from attngen.ir.text_expr import expr_text
from tests.codegen.plans import plan_of

DOT, DP, Q = sym("dot[0]"), sym("dp"), sym("q")
CAP, SLOPE = load("cap"), load("slopes", (sym("h"),))
THIRD, HALF = op("rsqrt", const(9.0)), const(0.5)


def value(expr: Expr) -> torch.Tensor:
    known = {"dot[0]": torch.linspace(-3, 3, 7, dtype=torch.float64), "dp": torch.tensor(2.0), "q": torch.arange(7)}
    known["h"] = torch.tensor(1)
    return evaluate(expr, Environment(known, {"cap": torch.tensor(30.0), "slopes": torch.tensor([1.0, 4.0])}))


def test_no_pair_divides() -> None:
    plan = with_gathered_factors(plan_of(attngen.Spec(score=scores.soft_cap(30.0))))
    core = plan.branches[0].keysets[0].core
    assert "tanh(dot[0] * maximum(minimum(rsqrt(to_float(64)) / cap, " in expr_text(core)


def test_the_same_values() -> None:
    for inner in (CAP, SLOPE, op("mul", CAP, HALF)):
        score = op("add", op("tanh", op("truediv", op("mul", DOT, THIRD), inner)), 1.0)
        assert gathered(score) != score
        torch.testing.assert_close(value(gathered(score)), value(score))


def test_what_pairs_or_rows_divide_by_stays() -> None:
    for by in (DOT, op("to_float", Q)):
        score = op("truediv", op("mul", DOT, THIRD), by)
        assert gathered(score) == score


def test_a_quotient_is_finite() -> None:
    tiny = gathered(op("truediv", op("mul", DOT, THIRD), load("tiny")))
    environment = Environment({"dot[0]": torch.zeros(1)}, {"tiny": torch.tensor(0.0)})
    assert evaluate(tiny, environment).eq(0).all()


def test_a_factor_of_a_sum() -> None:
    one = op("mul", op("mul", op("mul", DP, CAP), DOT), THIRD)
    other = op("mul", op("mul", op("sub", DP, DOT), op("mul", CAP, Q)), THIRD)
    factor, rests = common_factor([one, other])
    assert factor == op("mul", CAP, THIRD)
    for rest, whole in zip(rests, (one, other), strict=True):
        assert "cap" not in expr_text(rest)
        torch.testing.assert_close(value(factor) * value(rest), value(whole))


def test_what_they_do_not_share_stays() -> None:
    exprs = op("mul", DP, THIRD), op("mul", DP, HALF)
    assert common_factor(exprs) == (ONE, exprs)
    # One number for a head is not one for the call.
    assert common_factor([op("mul", DP, SLOPE)]) == (ONE, (op("mul", DP, SLOPE),))
    assert common_factor([op("mul", DP, op("uniform", 3))]) == (ONE, (op("mul", DP, op("uniform", 3)),))
