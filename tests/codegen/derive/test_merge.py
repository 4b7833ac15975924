"""Merging parts of a row: associative, commutative where it should be, and the same as one pass, however it is cut."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attngen import normalizers
from attngen.codegen.derive.merge import (
    OrderedState,
    State,
    empty,
    empty_ordered,
    finished,
    merge,
    merge_ordered,
    one_key,
    one_key_ordered,
    sink,
)
from attngen.errors import SpecError
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import Expr, load, sym
from attngen.ir.normalizer import Ordered, Streaming
from attngen.ir.parse_expr import parse_expr
from attngen.normalizers.normalizer import Normalizer
from attngen.spec import Spec
from tests.library.dense import qkv, run
from tests.strategies import PATIENT


def own(phi: str, psi: str | None, anchor: str | None, **more: Any) -> Callable[[], Normalizer]:
    texts = {"finalize": "safe_div(acc, mass)", "phi": phi, "psi": psi, "anchor": anchor, **more}
    parts: dict[str, Any] = {key: parse_expr(x) if isinstance(x, str) else x for key, x in texts.items()}
    return lambda: Normalizer(Streaming("own", **parts))


def lssar() -> Any:
    return normalizers.lssar(3, 0.0, 4.0)


RULES: dict[str, Callable[[], Normalizer]] = {
    "softmax": normalizers.softmax,
    "softmax-adjusted": lambda: normalizers.softmax(numerics="adjusted"),
    "softmax-sink": lambda: normalizers.softmax(sink=0.7),
    "softmax-sinks": lambda: normalizers.softmax(sink=torch.tensor([-torch.inf, 0.5, 90.0])),
    "softmax1": normalizers.softmax1,
    "sigmoid": normalizers.sigmoid,
    "relu": lambda: normalizers.relu(2, divide_by="count"),
    "softplus_l1": normalizers.softplus_l1,
    "cog": normalizers.cog,
    "laplace": normalizers.laplace,
    "none": normalizers.none,
    "linear": lambda: normalizers.linear(0.25),
    "softpick": normalizers.softpick,
    "affine": lambda: normalizers.affine(0.5, torch.rand(3, generator=torch.Generator().manual_seed(0))),
    "reweight": lambda: replace(lssar(), ir=lssar().ir.passes[1]),
    "squared": own("exp(s - m) ** 2", "exp(2.0 * s - 2.0 * m)", "s"),
    "powers of two": own("exp2(0.5 * (s - m))", "abs(s) * exp2(0.5 * (s - m))", "s"),
    "bounded": own("exp(3.0 * tanh(s) - m)", "exp(3.0 * tanh(s) - m)", "3.0 * tanh(s)"),
    "never more": own("exp(minimum(s - m, 0.0))", "exp(s - m)", "s", offset=0.25),
    "unmoved": own("tanh(s)", "s * s", "s", finalize="acc / (1.0 + mass) + vsum / (1.0 + count)"),
}  # fmt: skip
B, H, N_Q, N_K, DV = 1, 3, 4, 11, 2
TENSORS = qkv(b=B, h=H, n_q=N_Q, n_k=N_K, dv=DV)
AXES = ("b", "h", "q", "dim")
ROW = {
    "b": torch.arange(B)[:, None, None, None],
    "h": torch.arange(H)[:, None, None],
    "q": torch.arange(N_Q)[:, None],
    "dim": torch.arange(DV),
    **{name: torch.tensor(N_K) for name in ("n_k", "n_visible")},
}
Values = dict[str, Tensor]
"""The parts of a state, (B, H, Nq, Dv)."""


def element(name: str) -> Expr:
    return load(name, tuple(sym(axis) for axis in AXES))


def parts_of(state: State | OrderedState) -> dict[str, Expr]:
    named = {f.name: getattr(state, f.name) for f in fields(state)}
    return {name: expr for name, expr in named.items() if expr is not None}


class Row:
    """The keys of rows as states, and the derived rules on numbers."""

    def __init__(self, rule: Normalizer) -> None:
        self.node: Any = rule.ir
        self.captured = {name: torch.as_tensor(binding.fetch()) for name, binding in rule.bindings.items()}
        self.score = (lambda score: 3 * abs(score)) if self.nonnegative else (lambda score: 3 * score)
        self.expected = run(Spec(score=self.score, normalizer=rule), TENSORS)
        scores = TENSORS["q"] @ TENSORS["k"].mT / TENSORS["q"].shape[-1] ** 0.5
        self.scores = 3 * (scores.abs() if self.nonnegative else scores)

    @property
    def nonnegative(self) -> bool:
        return getattr(self.node, "scores", "real") == "nonnegative"

    def values(self, state: State | OrderedState, inputs: Values, **symbols: Tensor) -> Values:
        env = Environment({**ROW, **symbols}, {**self.captured, **inputs})
        return {name: evaluate(expr, env).expand(B, H, N_Q, DV) for name, expr in parts_of(state).items()}

    def key(self, j: int) -> Values:
        inputs = {"v": TENSORS["v"][:, :, j, None].expand(B, H, N_Q, DV)}
        one = one_key_ordered if isinstance(self.node, Ordered) else one_key
        return self.values(one(self.node, element("v")), inputs, s=self.scores[..., j, None])

    def keys(self) -> list[Values]:
        return [self.key(j) for j in range(N_K)]

    def nothing(self) -> Values:
        return self.values(empty_ordered() if isinstance(self.node, Ordered) else empty(self.node), {})

    def merged(self, a: Values, b: Values) -> Values:
        inputs = {f"{name} of {side}": x for side, part in (("a", a), ("b", b)) for name, x in part.items()}
        sides = [{name: element(f"{name} of {side}") for name in a} for side in "ab"]
        if isinstance(self.node, Ordered):
            return self.values(merge_ordered(*(OrderedState(**side) for side in sides)), inputs)
        return self.values(merge(self.node, *(State(**side) for side in sides)), inputs)

    def result(self, state: Values) -> Tensor:
        if isinstance(self.node, Ordered):
            return state["acc"]
        closed = sink(self.node)
        if closed is not None:
            state = self.merged(state, self.values(closed, {}))
        expr = finished(self.node, State(**{name: element(name) for name in state}))
        return evaluate(expr, Environment(ROW, {**self.captured, **state})).expand(B, H, N_Q, DV)

    def tree(self, parts: list[Values], source: random.Random) -> Values:
        """All parts, neighbours merged in any order; which of two comes first is open where that does not matter."""
        parts = list(parts)
        while len(parts) > 1:
            i = source.randrange(len(parts) - 1)
            pair = [parts.pop(i), parts.pop(i)]
            if not isinstance(self.node, Ordered):
                source.shuffle(pair)
            parts.insert(i, self.merged(*pair))
        return parts[0]


def close(one: Values | Tensor, other: Values | Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module", params=RULES)
def row(request: pytest.FixtureRequest) -> Row:
    return Row(RULES[request.param]())


@pytest.fixture(scope="module", params=["stick_breaking", "forward"])
def ordered(request: pytest.FixtureRequest) -> Row:
    if request.param == "stick_breaking":
        return Row(normalizers.stick_breaking())
    return Row(Normalizer(Ordered("own", "forward", parse_expr("tanh(s)"), parse_expr("-relu(s)"))))


def test_any_order_of_merging_gives_the_reference(row: Row) -> None:
    keys = row.keys()
    for seed in range(4):
        close(row.result(row.tree(random.Random(seed).sample(keys, len(keys)), random.Random(seed))), row.expected)


def test_merging_is_associative_and_commutative(row: Row) -> None:
    keys = row.keys()
    for i in range(0, N_K - 2, 3):
        a, b, c = keys[i : i + 3]
        close(row.merged(row.merged(a, b), c), row.merged(a, row.merged(b, c)))
        close(row.merged(a, b), row.merged(b, a))


def test_nothing_changes_nothing(row: Row) -> None:
    a, nothing = row.merged(row.key(0), row.key(1)), row.nothing()
    close(row.merged(a, nothing), a)
    close(row.merged(nothing, a), a)
    close(row.merged(nothing, nothing), nothing)


def test_ordered_parts(ordered: Row) -> None:
    keys = ordered.keys() if ordered.node.direction == "forward" else ordered.keys()[::-1]
    a, b, c = keys[:3]
    close(ordered.merged(ordered.merged(a, b), c), ordered.merged(a, ordered.merged(b, c)))
    assert not torch.allclose(ordered.merged(a, b)["acc"], ordered.merged(b, a)["acc"])
    close(ordered.merged(a, ordered.nothing()), a)
    close(ordered.merged(ordered.nothing(), a), a)
    for seed in range(4):
        close(ordered.tree(keys, random.Random(seed))["acc"], ordered.expected)


FACTORS = ["exp(s - m)", "exp2(s - m)", "exp(0.5 * (s - m))", "sqrt(exp(s - m))", "exp(s - m) ** 2"]
BESIDE = ["s", "tanh(s)", "sign(s)", "relu(s)", "(1.0 + s * s)", "sigmoid(s)", "(0.25 - cos(s))", "exp(-abs(s))"]


@settings(PATIENT, max_examples=25)
@given(
    st.lists(st.sampled_from(BESIDE), max_size=2),
    st.lists(st.sampled_from(FACTORS), min_size=1, max_size=2),
    st.sampled_from(
        ["safe_div(acc, mass)", "acc / where(mass > 0.0, mass, 1.0)", "tanh(safe_div(acc, mass)) + vsum / count"]
    ),
    st.sampled_from([0.0, 0.25]),
    st.randoms(use_true_random=False),
)
def test_random_declarations(
    beside: list[str], factors: list[str], finalize: str, offset: float, source: random.Random
) -> None:
    phi = " * ".join([*beside, *factors])
    rest: dict[str, Any] = {"anchor": sym("s"), "finalize": parse_expr(finalize), "offset": offset}
    row = Row(Normalizer(Streaming("drawn", phi=parse_expr(phi), psi=parse_expr(f"abs({phi})"), **rest)))
    keys = source.sample(row.keys(), N_K)
    close(row.result(row.tree([*keys, row.nothing()], source)), row.expected)


def test_what_no_law_allows_is_not_merged() -> None:
    node = Streaming("bad", phi=parse_expr("sigmoid(s - m)"), anchor=sym("s"), finalize=parse_expr("acc"))
    with pytest.raises(SpecError, match="do not follow one shift law"):
        merge(node, empty(node), empty(node))
