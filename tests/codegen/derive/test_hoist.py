"""Affine terms of positions, taken apart: the same score, with fewer operations for each pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import attngen
from attngen import masks, scores
from attngen.codegen.derive.hoist import hoisted, with_hoisted_scores, without_signs
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import Expr, op, sym, symbols
from attngen.ir.text_expr import expr_text
from tests.codegen.plans import plan_of

N, START = 48, 16
Q, KV, S = sym("q"), sym("kv"), sym("dot[0]")


def value(expr: Expr) -> torch.Tensor:
    """Over all pairs of a tile that begins at key START."""
    q, lane = torch.arange(N)[:, None], torch.arange(N)[None, :]
    known = {"q": q, "kv": lane + START, "lane": lane, "start": torch.tensor(START), "n_q": torch.tensor(N)}
    known |= {"n_k": torch.tensor(N + START), "h": torch.tensor(1)}
    known["dot[0]"] = torch.linspace(-2, 2, N * N, dtype=torch.float64).reshape(N, N)
    return evaluate(expr, Environment(known, {}))


def core(spec: attngen.Spec) -> str:
    return expr_text(with_hoisted_scores(plan_of(spec)).branches[0].keysets[0].core)


SIMPLE: list[Callable[..., Any]] = [
    lambda score, q, kv: score + 0.25 * (kv - q),
    lambda score, q, kv: score * 2 + 0.25 * (kv - 2 * q + 3) / 7.0,
    lambda score, q, kv: score - 0.1 * (q - kv) - 0.3 * kv,
]


@pytest.mark.parametrize("rule", range(len(SIMPLE)))
def test_pairs_are_left_with_additions(rule: int) -> None:
    text = core(attngen.Spec(score=SIMPLE[rule]))
    assert "start" in text
    assert "lane" in text
    assert "kv" not in text


def test_a_distance_under_a_causal_mask_has_no_sign() -> None:
    slopes = torch.ones(4)
    assert "abs" not in core(attngen.Spec(mask=masks.causal("bottom_right"), score=scores.alibi(slopes)))
    # Without a mask, or under one that does not say which of the two is larger, it has one.
    assert "abs" in core(attngen.Spec(score=scores.alibi(slopes)))
    assert "abs" in core(attngen.Spec(mask=masks.window(3, 3), score=scores.alibi(slopes)))


def test_what_is_not_affine_stays() -> None:
    for rule in (
        lambda score, q, kv: score + 0.5 * ((q - kv) // 4),
        lambda score, q, kv: score + torch.exp(0.1 * (q - kv)),
        lambda score: score,
    ):
        plan = plan_of(attngen.Spec(score=rule))
        assert with_hoisted_scores(plan) == plan


def test_differences_of_far_positions_keep_their_digits() -> None:
    """Counted from the tile, no product is larger than the distance."""
    far = op("add", S, op("mul", op("sub", op("add", KV, 10_000_000), op("add", Q, 10_000_000)), 0.3))
    assert expr_text(hoisted(far)) == expr_text(hoisted(op("add", S, op("mul", op("sub", KV, Q), 0.3))))


integers = st.recursive(
    st.sampled_from([Q, KV, sym("n_q"), sym("h")]),
    lambda e: st.one_of(
        st.builds(lambda a, b: op("add", a, b), e, e),
        st.builds(lambda a, b: op("sub", a, b), e, e),
        st.builds(lambda a, c: op("mul", a, c), e, st.integers(-3, 3)),
        st.builds(lambda a: op("abs", a), e),
        st.builds(lambda a, c: op("floordiv", a, c), e, st.integers(1, 3)),
    ),
    max_leaves=5,
)
programs = st.recursive(
    st.one_of(st.just(S), st.builds(lambda e: op("to_float", e), integers)),
    lambda e: st.one_of(
        st.builds(lambda a, b: op("add", a, b), e, st.one_of(e, integers)),
        st.builds(lambda a, b: op("sub", a, b), e, st.one_of(e, integers)),
        st.builds(lambda a, c: op("mul", a, c), e, st.sampled_from([0.5, -2.0, 3.0])),
        st.builds(lambda a, c: op("truediv", a, c), e, st.sampled_from([2.0, -4.0])),
        st.builds(lambda a: op("neg", a), e),
        st.builds(lambda a: op("tanh", a), e),
    ),
    max_leaves=5,
)


@given(programs)
def test_values_are_the_same(score: Expr) -> None:
    found = hoisted(score)
    torch.testing.assert_close(value(found).expand(N, N), value(score).expand(N, N), rtol=1e-9, atol=1e-9)
    assert symbols(found) <= symbols(score) | {"start", "lane"}


NARROW = masks.Mask.of(lambda q, kv: (kv <= q) & (q - kv < 5))


@given(integers, st.sampled_from([masks.causal(), masks.causal("bottom_right"), NARROW]))
def test_signs_are_dropped_only_where_they_are_known(inner: Expr, mask: masks.Mask) -> None:
    score = op("add", S, op("abs", op("sub", inner, KV)))
    condition = plan_of(attngen.Spec(mask=mask)).branches[0].keysets[0].mask
    kept = value(condition).expand(N, N)
    found, exact = (value(e).expand(N, N)[kept] for e in (without_signs(score, condition), score))
    torch.testing.assert_close(found, exact)
