"""Normalizers for scores that are never negative: branches that show it pass, others are told what can be negative."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from attngen.errors import ParseError, SpecError
from attngen.ir.expr import Expr, const, load, op, sym
from attngen.ir.nodes import Branch, Dot, Input, KeySet, Spec, View
from attngen.ir.normalizer import Chained, Streaming
from attngen.ir.parse import parse
from attngen.ir.parse_expr import parse_expr
from attngen.ir.text import fingerprint, text
from attngen.ir.verify import verify

S, X = sym("s"), sym("x")
LINEAR = Streaming("linear", S, op("safe_div", sym("acc"), sym("mass")), psi=S, scores="nonnegative")
RELU = op("relu", X)


def dot(q: Expr | None = RELU, k: Expr | None = RELU, scale: Expr | None = None) -> Dot:
    bare = Dot(View("q", feature=q), View("k", feature=k))
    return bare if scale is None else replace(bare, scale=scale)


def spec(*dots: Dot, normalizer: object = LINEAR, inputs: tuple[Input, ...] = (), **more: object) -> Spec:
    return Spec((Branch(normalizer, dots=dots or (Dot(),), **more),), inputs=inputs)  # type: ignore[arg-type]


FEATURES = ["relu(x)", "exp(x)", "sigmoid(x)", "x * x", "x ** 2", "dim_softmax(x)", "softplus(x)", "abs(x) + 0.5",
            "where(x > 0.0, x + 1.0, exp(x))", "1.0 + tanh(x)", "relu(x) ** 3", "maximum(x, 1e-6)"]  # fmt: skip


@pytest.mark.parametrize("feature", FEATURES)
def test_feature_maps_that_are_never_negative(feature: str) -> None:
    verify(spec(dot(parse_expr(feature), parse_expr(feature))))


WIDTH = Input("w", ("h",))
FINE = [
    spec(dot(scale=const(1.0))),
    spec(dot(), dot()),
    spec(dot(), dot(), join=op("maximum", sym("dot[0]"), sym("dot[1]"))),
    spec(dot(), score=op("mul", sym("score"), op("exp", load("w", (sym("h"),)))), inputs=(WIDTH,)),
    spec(dot(), score=op("where", op("le", sym("kv"), sym("q")), sym("score"), -math.inf)),
    spec(score=op("abs", sym("score"))),
    spec(score=op("exp", op("mul", sym("score"), 0.5))),
    spec(dot(), decay="g", inputs=(Input("g", ("b", "h", "kv")),)),
    spec(dot(), keysets=(KeySet((dot(),)),)),
    spec(dot(), normalizer=replace(LINEAR, sink=const(0.5))),
    spec(normalizer=Chained("two", (replace(LINEAR, scores="real", phi=op("exp", S), psi=op("exp", S)), LINEAR))),
]


@pytest.mark.parametrize("node", FINE, ids=range(len(FINE)))
def test_scores_that_are_never_negative(node: Spec) -> None:
    verify(node)


ADVICE = (
    "; give q and k feature maps that are never negative (relu(x), exp(x), sigmoid(x), x * x, elu(x) + 1, "
    "dim_softmax(x)) and a scale >= 0, or end the score function in torch.abs, torch.relu or torch.exp"
)
NEEDS = "normalizer 'linear' is for scores that are never negative, but those can be: "
WRONG = [
    (spec(), NEEDS + "the view of q has no feature map" + ADVICE),
    (spec(dot(k=None)), NEEDS + "the view of k has no feature map" + ADVICE),
    (spec(dot(q=op("tanh", X))), NEEDS + "the view of q has a feature map that can be negative" + ADVICE),
    (spec(dot(scale=const(-1.0))), NEEDS + "the scale can be negative" + ADVICE),
    (
        spec(dot(scale=load("w", (sym("h"),))), inputs=(WIDTH,)),
        NEEDS + "the scale can be negative" + ADVICE,
    ),
    (
        spec(dot(), score=op("sub", sym("score"), 1.0)),
        NEEDS + "the score function can make them negative" + ADVICE,
    ),
    (
        spec(dot(), dot(), join=op("sub", sym("dot[0]"), sym("dot[1]"))),
        NEEDS + "the join of its dots can be negative" + ADVICE,
    ),
    (
        spec(dot(), keysets=(KeySet(),)),
        NEEDS.replace("those", "those of key set 1") + "the view of q has no feature map" + ADVICE,
    ),
    (
        spec(dot(), normalizer=replace(LINEAR, sink=const(-0.5))),
        "normalizer 'linear' is for scores that are never negative, but its sink can be",
    ),
    (
        spec(normalizer=Chained("two", (replace(LINEAR, scores="real", psi=op("exp", S)), LINEAR))),
        "normalizer 'two', pass 1 is for scores that are never negative, but those are the weights of pass 0, whose "
        "phi can be",
    ),
    (
        spec(normalizer=replace(LINEAR, scores="big")),
        "normalizer 'linear': scores is 'big'; allowed: real, nonnegative",
    ),
]


@pytest.mark.parametrize(("node", "message"), WRONG, ids=range(len(WRONG)))
def test_scores_that_can_be_negative(node: Spec, message: str) -> None:
    with pytest.raises(SpecError) as error:
        verify(node)
    assert error.value.message == message


def test_the_text_tells() -> None:
    node = spec(dot())
    assert "    normalizer: streaming linear {\n      scores: nonnegative\n      phi: s\n" in text(node)
    assert parse(text(node)) == node
    real = spec(dot(), normalizer=replace(LINEAR, scores="real"))
    assert "scores" not in text(real)
    assert parse(text(real)) == real
    assert fingerprint(real) != fingerprint(node)
    assert parse(text(node).replace("scores: nonnegative", "scores: real")) == real
    with pytest.raises(ParseError, match="unknown kind of scores 'nonnegativ'; did you mean 'nonnegative'"):
        parse(text(node).replace("nonnegative", "nonnegativ"))
