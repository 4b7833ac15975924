"""The shift law: what `degree` proves holds for numbers, and what it cannot prove it leaves."""

from __future__ import annotations

import math
import random

import pytest

from attngen.codegen.derive.shift import degree
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import Expr, const, op, substitute, sym
from attngen.ir.ops import Type
from tests.strategies import UNORDINARY, signatures

S, M = sym("s"), sym("m")
EXP = op("exp", op("sub", S, M))

KNOWN: list[tuple[str, Expr, float | None]] = [
    ("no anchor", op("sigmoid", S), 0.0),
    ("softmax", EXP, 1.0),
    ("twice as sharp", op("exp", op("mul", 2.0, op("sub", S, M))), 2.0),
    ("a square", op("mul", EXP, EXP), 2.0),
    ("a quotient", op("truediv", S, EXP), -1.0),
    ("a sign", op("mul", op("sign", S), EXP), 1.0),
    ("a sum", op("sub", EXP, op("exp", op("neg", M))), 1.0),
    ("relu of a sum", op("relu", op("sub", EXP, op("exp", op("neg", M)))), 1.0),
    ("a choice", op("where", op("gt", S, 0.0), EXP, 0.0), 1.0),
    ("a choice by the anchor", op("where", op("gt", M, 0.0), EXP, 0.0), None),
    ("the wrong sign", op("exp", op("add", S, M)), -1.0),
    ("one more", op("add", EXP, 1.0), None),
    ("two degrees", op("add", EXP, op("mul", EXP, EXP)), None),
    ("not linear", op("exp", op("mul", M, M)), None),
    ("the anchor itself", M, None),
    ("a power of two", op("exp2", op("sub", S, M)), None),
    ("tanh", op("tanh", op("sub", S, M)), None),
]


@pytest.mark.parametrize(("name", "expr", "k"), KNOWN, ids=[k[0] for k in KNOWN])
def test_degree(name: str, expr: Expr, k: float | None) -> None:
    if name == "a power of two":
        assert degree(expr) in (None, pytest.approx(math.log(2)))
    else:
        assert degree(expr) == k


def value(expr: Expr, s: float, m: float) -> float:
    import torch

    return float(evaluate(expr, Environment({"s": torch.tensor(s).double(), "m": torch.tensor(m).double()})))


def grown(rng: random.Random, kind: Type, depth: int) -> Expr:
    if kind == "float" and rng.random() < 0.35:
        return rng.choice([S, M, EXP, op("exp", op("neg", M)), const(0.0), const(1.5), const(-2.0)])
    if depth == 0:
        return const({"bool": True, "int": 2, "float": 0.5}[kind])
    name, types = rng.choice([s for s in signatures(kind, UNORDINARY) if s[0] not in ("pow", "shl", "shr")])
    return op(name, *(grown(rng, t, depth - 1) for t in types))


def test_what_is_proven_holds() -> None:
    rng, proven = random.Random(0), 0
    for _ in range(1200):
        expr = grown(rng, "float", 3)
        k = degree(expr)
        if k is None:
            continue
        proven += 1
        for _ in range(4):
            s, m, t = (rng.uniform(-2, 2) for _ in range(3))
            before, after = value(expr, s, m), value(substitute(expr, {"m": op("add", M, t)}), s, m)
            expected = math.exp(-k * t) * before
            if math.isfinite(before) and math.isfinite(after) and abs(before) < 1e12:
                assert after == pytest.approx(expected, rel=1e-6, abs=1e-9), (expr, s, m, t)
    assert proven > 80
