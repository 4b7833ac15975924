"""Random score programs, masks and declarations of normalizers: result and every gradient against the oracle.

The examples are the same in every run, so kernels stay cached; a failure is not shrunk, for every step would compile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import Phase
from hypothesis import strategies as st
from torch import Tensor

import attngen
from attngen import normalizers
from attngen.ir.expr import Expr, const, load, loads, op, sym
from attngen.ir.nodes import Affine, Branch, Input, Spec
from attngen.ir.normalizer import Streaming
from attngen.ir.walk import expressions
from tests.end_to_end.gradients import check_gradients
from tests.end_to_end.oracle import operands, random

pytestmark = pytest.mark.cxx
N, DEPTH = 97, 3
bounded = hypothesis.settings(
    max_examples=4, derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate]
)

INPUTS = {
    "head": (Input("head", ("h",)), (4,)),
    "row": (Input("row", ("b", "h", "q")), (2, 4, N)),
    "key": (Input("key", ("h", "kv")), (4, N)),
    "near": (Input("near", ("?",)), (2 * N - 1,)),
    "pair": (Input("pair", ("q", "kv")), (N, N)),
    "few": (Input("few", ("?", "h")), (5, 4)),
}
ROW_LOADS = (
    load("head", (sym("h"),)),
    load("row", (sym("b"), sym("h"), sym("q"))),
    load("few", (op("mod", sym("q"), 5), sym("h"))),
)
PAIR_LOADS = (
    *ROW_LOADS,
    load("key", (sym("h"), sym("kv"))),
    load("near", (op("add", op("sub", sym("q"), sym("kv")), N - 1),)),
    load("near", (op("add", op("sub", sym("kv"), sym("q")), N - 1),)),
    load("pair", (sym("q"), sym("kv"))),
    load("few", (op("mod", op("add", op("mul", sym("q"), 3), sym("kv")), 5), sym("h"))),
)
OF_ROWS = (op("lt", sym("q"), 30), op("eq", op("mod", op("add", sym("q"), sym("h")), 3), 1))
OF_PAIRS = (*OF_ROWS, op("lt", sym("q"), sym("kv")), op("eq", op("mod", op("add", sym("kv"), sym("h")), 3), 1))
TAME = ("tanh", "sin", "cos", "sigmoid", "erf", "neg", "abs", "relu")
"""Functions that neither grow nor have steep slopes: the values stay comparable in float32."""


def square_plus_one(x: Expr) -> Expr:
    return op("add", op("mul", x, x), 1.0)


@st.composite
def programs(draw: st.DrawFn, leaves: tuple[Expr, ...], conditions: tuple[Expr, ...] = OF_PAIRS) -> Expr:
    """An expression of the leaves whose values and derivatives stay of the size of 1. Parts are shared."""
    made: list[Expr] = []

    def grow(levels: int) -> Expr:
        if made and draw(st.integers(0, 5)) == 0:
            return draw(st.sampled_from(made))
        if levels == 0:
            return draw(st.sampled_from(leaves))
        kind = draw(st.integers(0, 9))
        if kind < 3:
            node = op(draw(st.sampled_from(TAME)), grow(levels - 1))
        elif kind < 5:
            node = op(draw(st.sampled_from(["add", "sub"])), grow(levels - 1), grow(levels - 1))
        elif kind == 5:
            node = op("mul", op("tanh", grow(levels - 1)), grow(levels - 1))
        elif kind == 6:
            node = op("where", draw(st.sampled_from(conditions)), grow(levels - 1), grow(levels - 1))
        elif kind == 7:
            x = grow(levels - 1)
            choice = draw(st.sampled_from(["rsqrt", "sqrt", "log", "log2", "log1p", "truediv", "safe_div"]))
            divided = choice in ("truediv", "safe_div")
            node = op(choice, grow(levels - 1), square_plus_one(x)) if divided else op(choice, square_plus_one(x))
        elif kind == 8:
            node = op(draw(st.sampled_from(["maximum", "minimum"])), grow(levels - 1), grow(levels - 1))
        else:
            name = draw(st.sampled_from(["exp", "exp2", "expm1", "softplus", "pow"]))
            x = op("tanh", grow(levels - 1))
            node = op("pow", op("add", x, 2.0), draw(st.sampled_from([2, 3, 1.5]))) if name == "pow" else op(name, x)
        made.append(node)
        return node

    return grow(DEPTH)


@st.composite
def masks(draw: st.DrawFn) -> Expr:
    """Bands, remainders and their negations; many leave rows empty."""
    slope, low, width = draw(st.sampled_from([0, 1, 1, 2])), draw(st.integers(-60, 20)), draw(st.integers(0, 90))
    start = op("add", op("mul", sym("q"), slope), low)
    band = op("and", op("ge", sym("kv"), start), op("le", sym("kv"), op("add", start, width)))
    count = draw(st.integers(1, 5))
    rest = op("mod", op("add", op("mul", sym("kv"), draw(st.integers(1, 3))), op("add", sym("q"), sym("h"))), count)
    found = op(draw(st.sampled_from(["and", "or"])), band, op("lt", rest, draw(st.integers(1, count))))
    return op("not", found) if draw(st.integers(0, 4)) == 0 else found


def given_to(spec: Spec) -> tuple[Spec, dict[str, Tensor]]:
    """The spec with the inputs that it reads, and numbers for them."""
    names = sorted({node.tensor for node in loads(*expressions(spec))})
    inputs = tuple(INPUTS[name][0] for name in names)
    return replace(spec, inputs=inputs), {n: 0.5 * random(*INPUTS[n][1], seed=i) for i, n in enumerate(names)}


RULES = [
    normalizers.softmax().ir,
    normalizers.softmax1().ir,
    Streaming("sigmoid", phi=op("sigmoid", sym("s")), finalize=sym("acc")),
    normalizers.stick_breaking().ir,
    normalizers.entmax(1.5).ir,
]


@bounded
@hypothesis.given(
    program=programs((*PAIR_LOADS, sym("score"), sym("score"), sym("score"))), mask=masks(), rule=st.sampled_from(RULES)
)
def test_random_score(program: Expr, mask: Expr, rule: Any) -> None:
    score = op("add", op("mul", sym("score"), 0.5), program)
    spec, given = given_to(Spec((Branch(rule, mask=mask, score=score),)))
    lse = getattr(rule, "lse", None) is not None
    check_gradients(spec, *operands(n_q=N, n_k=N, d=12, dv=9), lse=lse, bound=3e-5, **given)


@pytest.mark.slow
@bounded
@hypothesis.given(weight=programs(PAIR_LOADS), gate=programs(ROW_LOADS, OF_ROWS), rule=st.sampled_from(RULES))
def test_random_weight_and_gate(weight: Expr, gate: Expr, rule: Any) -> None:
    mask = op("and", op("le", sym("kv"), sym("q")), op("ne", op("mod", sym("q"), 7), 3))
    spec, given = given_to(Spec((Branch(rule, mask=mask, weight=weight),), combine=Affine((gate,))))
    check_gradients(spec, *operands(n_q=N, n_k=N, d=12, dv=9), bound=3e-5, **given)


@dataclass(frozen=True)
class Anchored:
    """An anchor of the score, and the rate at which phi and psi follow it."""

    anchor: Expr
    rate: float

    def weight(self) -> Expr:
        return op("exp", op("mul", op("sub", self.anchor, sym("m")), self.rate))


S = sym("s")
HEAD = load("head", (sym("h"),))
ANCHORS = (S, op("abs", S), op("relu", S), op("mul", S, 0.5), op("maximum", S, 1.0))
FACTORS = (const(1.0), op("sigmoid", S), op("tanh", S), op("add", op("mul", HEAD, HEAD), 0.5), op("sin", S))
POSITIVE = (const(1.0), op("sigmoid", S), op("add", op("mul", HEAD, HEAD), 0.5), op("softplus", S))
SHAPES = (op("sigmoid", S), op("relu", S), op("sin", S), op("mul", S, op("sigmoid", op("mul", S, HEAD))))
SHARE = op("safe_div", sym("acc"), sym("mass"))
MEAN = op("truediv", sym("vsum"), op("add", sym("count"), 1.0))


@st.composite
def declarations(draw: st.DrawFn) -> Streaming:
    """Streaming normalizers whose phi and psi follow one shift law."""
    finalize = draw(st.sampled_from([SHARE, op("tanh", SHARE), op("sub", SHARE, MEAN), op("mul", HEAD, SHARE)]))
    if draw(st.booleans()):
        law = Anchored(draw(st.sampled_from(ANCHORS)), draw(st.sampled_from([1.0, 0.5, 2.0])))
        sink = draw(st.sampled_from([None, const(0.3), HEAD]))
        lse = op("add", sym("m"), op("truediv", op("log", sym("mass")), law.rate)) if draw(st.booleans()) else None
        return Streaming(
            "own",
            phi=op("mul", draw(st.sampled_from(FACTORS)), law.weight()),
            psi=op("mul", draw(st.sampled_from(POSITIVE)), law.weight()),
            anchor=law.anchor,
            offset=draw(st.sampled_from([0.0, 0.25])),
            finalize=finalize,
            sink=sink,
            lse=lse,
        )
    if draw(st.booleans()):
        return Streaming(
            "own",
            phi=draw(st.sampled_from(SHAPES)),
            finalize=draw(st.sampled_from([sym("acc"), op("sub", sym("acc"), MEAN)])),
        )
    return Streaming("own", phi=draw(st.sampled_from(SHAPES)), psi=draw(st.sampled_from(POSITIVE)), finalize=finalize)


@bounded
@hypothesis.given(rule=declarations(), mask=masks())
def test_random_declaration(rule: Streaming, mask: Expr) -> None:
    spec, given = given_to(Spec((Branch(rule, mask=mask),)))
    check_gradients(spec, *operands(n_q=N, n_k=N, d=12, dv=9), lse=rule.lse is not None, bound=3e-5, **given)


def test_declarations_of_users() -> None:
    """The same through the public declaration, where functions are traced."""
    gain = random(4).requires_grad_()
    rule = normalizers.streaming(
        "mine",
        phi=lambda s, m, h: torch.sin(gain[h] * s) * torch.exp(2 * (torch.abs(s) - m)),
        psi=lambda s, m: torch.exp(2 * (torch.abs(s) - m)),
        anchor=lambda s: torch.abs(s),
        finalize=lambda acc, mass, vsum, count: acc / mass - vsum / (1 + count),
        sink=lambda h: gain[h],
        lse=lambda m, mass: m + torch.log(mass) / 2,
    )
    spec = attngen.Spec(mask=lambda q, kv: (kv <= q) & (q > 3), normalizer=rule)
    check_gradients(spec, *operands(n_q=N), by={"gain": gain}, lse=True)
