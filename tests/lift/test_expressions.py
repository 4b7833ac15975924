"""Folding, masks and indices by themselves, against evaluation of what they replace."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import Expr, Sym, const, load, op, sym
from attngen.lift.fold import fold
from attngen.lift.indices import reshaped
from attngen.lift.masks import split

Q, KV, SCORE = sym("q"), sym("kv"), sym("score")
CAUSAL = op("le", KV, Q)
ONE, ZERO, FAR, BELOW = const(1.0), const(0.0), const(-1e9), const(-math.inf)


def values(expr: Expr) -> torch.Tensor:
    """The expression on 5 queries and 5 keys."""
    q, kv = torch.arange(5)[:, None], torch.arange(5)[None]
    score = torch.linspace(-2, 2, 25).view(5, 5).double()
    return evaluate(expr, Environment({"q": q, "kv": kv, "score": score})).broadcast_to(5, 5)


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("eq", (op("where", CAUSAL, ONE, ZERO), ZERO), op("not", CAUSAL)),
        ("ne", (op("where", CAUSAL, ONE, ZERO), ZERO), CAUSAL),
        ("mul", (fold("sub", (ONE, op("to_float", CAUSAL))), FAR), op("where", CAUSAL, const(-0.0), FAR)),
        ("log", (op("to_float", CAUSAL),), op("where", CAUSAL, ZERO, BELOW)),
        ("to_bool", (op("add", CAUSAL, CAUSAL),), CAUSAL),
        ("to_bool", (op("to_float", CAUSAL),), CAUSAL),
        ("not", (op("not", CAUSAL),), CAUSAL),
        ("and", (const(True), CAUSAL), CAUSAL),
    ],
)
def test_conditions_are_recognised(name: str, args: tuple[Expr, ...], expected: Expr) -> None:
    assert fold(name, args) == expected


@pytest.mark.parametrize("name", ["add", "sub", "mul", "minimum", "maximum", "lt", "eq", "truediv"])
def test_folding_changes_no_value(name: str) -> None:
    parts = [CAUSAL, op("to_float", CAUSAL), op("where", CAUSAL, const(2), const(3)), const(0), ONE, Q, SCORE]
    for a, b in itertools.product(parts, parts):
        if "bool" in (a.type, b.type) and name in ("minimum", "maximum", "lt"):
            continue
        if name == "truediv" and b in (const(0), CAUSAL, op("to_float", CAUSAL), Q):
            continue
        torch.testing.assert_close(values(fold(name, (a, b))).double(), values(op(name, a, b)).double())


@pytest.mark.parametrize(
    ("score", "rest"),
    [
        (op("where", CAUSAL, SCORE, BELOW), SCORE),
        (op("where", op("gt", KV, Q), FAR, SCORE), SCORE),
        (op("add", SCORE, op("where", CAUSAL, ZERO, BELOW)), SCORE),
        (op("sub", SCORE, op("where", CAUSAL, ZERO, const(1e9))), SCORE),
        (op("mul", op("where", CAUSAL, SCORE, BELOW), const(2.0)), op("mul", SCORE, const(2.0))),
        (op("where", op("lt", Q, const(2)), op("where", CAUSAL, SCORE, FAR), op("where", CAUSAL, SCORE, FAR)), SCORE),
    ],
)
def test_a_mask_is_taken_out_of_a_score(score: Expr, rest: Expr) -> None:
    mask, found = split(score)
    assert torch.equal(values(mask), values(CAUSAL))
    seen = values(CAUSAL)
    torch.testing.assert_close(values(found)[seen], values(rest)[seen])


def test_what_is_no_mask_stays() -> None:
    for score in (SCORE, op("where", CAUSAL, SCORE, ZERO), op("add", SCORE, const(-1e5)), op("neg", SCORE)):
        assert split(score) == (const(True), score)


@pytest.mark.parametrize("cooled", [lambda x: op("mul", x, const(1e-4)), lambda x: op("truediv", x, const(1e4))])
def test_a_temperature_brings_near_what_was_far_below(cooled: Callable[[Expr], Expr]) -> None:
    score = cooled(op("where", CAUSAL, SCORE, const(-1e4)))
    assert split(score) == (const(True), score)
    mask, _ = split(cooled(op("where", CAUSAL, SCORE, const(-torch.inf))))
    assert torch.equal(values(mask), values(CAUSAL))


@settings(max_examples=60)
@given(st.permutations([2, 3, 1, 4]), st.data())
def test_indices_follow_a_reshape(sizes: list[int], data: st.DataObject) -> None:
    old = tuple(sizes)
    factors = [1, 2, 3, 2, 2]
    order = data.draw(st.permutations(factors))
    new = [1]
    for factor in order:
        new = [*new[:-1], new[-1] * factor] if data.draw(st.booleans()) else [*new, factor]
    tensor = torch.arange(24).view(old)
    names = tuple(Sym("int", f"#{i}") for i in range(len(new)))
    found = reshaped(names, new, old)
    grids = torch.meshgrid(*(torch.arange(n) for n in new), indexing="ij")
    place = {name.name: grid for name, grid in zip(names, grids, strict=True)}
    element = evaluate(load("x", found, "int"), Environment(place, {"x": tensor}))
    assert torch.equal(element.broadcast_to(new), tensor.view(new))
