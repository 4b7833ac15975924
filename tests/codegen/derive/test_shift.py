"""The shift law: what `degree` proves holds for numbers, and what it cannot prove it leaves."""

from __future__ import annotations

import math
import random

import pytest

from attngen.codegen.derive.shift import degree, is_invariant
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import Expr, const, load, op, substitute, sym, symbols
from attngen.ir.ops import Type
from tests.strategies import UNORDINARY, signatures

S, M = sym("s"), sym("m")
EXP = op("exp", op("sub", S, M))
FLOOR = op("exp", op("neg", M))

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
    ("a power of two", op("exp2", op("sub", S, M)), math.log(2)),
    ("a power of two, scaled", op("exp2", op("mul", op("sub", S, M), 1.5)), 1.5 * math.log(2)),
    ("a power of three", op("pow", 3.0, op("sub", S, M)), math.log(3)),
    ("tanh", op("tanh", op("sub", S, M)), None),
    ("two factors", op("mul", op("exp", S), op("exp", op("neg", M))), 1.0),
    ("a quotient of exponentials", op("truediv", op("exp", S), op("exp", M)), 1.0),
    ("a power", op("pow", EXP, 3), 3.0),
    ("a root", op("sqrt", EXP), 0.5),
    ("one over a root", op("rsqrt", op("exp", op("mul", 4.0, M))), 2.0),
    ("a broken power of relu", op("pow", op("relu", op("sub", EXP, FLOOR)), 1.5), 1.5),
    ("nested", op("abs", op("maximum", op("relu", op("sub", EXP, FLOOR)), op("neg", EXP))), 1.0),
    ("divided", op("exp", op("truediv", op("sub", S, M), 4.0)), 0.25),
    ("a computed literal", op("exp", op("mul", op("log", const(2.0)), op("sub", S, M))), math.log(2)),
    ("anchored at a logarithm", op("exp", op("mul", 2.5, op("sub", op("log", S), M))), 2.5),
    ("back and forth", op("exp", op("sub", S, op("log", op("exp", M)))), 1.0),
    ("a choice by an invariant", op("where", op("gt", EXP, FLOOR), EXP, 0.0), 1.0),
    ("a choice by the sign", op("where", op("gt", op("sub", EXP, FLOOR), 0.0), EXP, FLOOR), 1.0),
    ("a choice by a distance", op("where", op("gt", op("sub", S, M), -2.0), EXP, 0.0), None),
    ("a choice by a difference", op("where", op("gt", op("sub", S, M), op("neg", M)), EXP, 0.0), 1.0),
    ("what cancels", op("tanh", op("mul", EXP, op("exp", M))), 0.0),
    ("the larger", op("exp", op("sub", op("maximum", op("sub", S, M), op("neg", M)), 0.5)), 1.0),
    ("times zero", op("add", EXP, op("mul", 0.0, op("tanh", M))), 1.0),
    ("a head's own rate", op("exp", op("mul", load("w", (sym("h"),)), op("sub", S, M))), None),
    ("a table read by the anchor", op("mul", EXP, load("w", (op("to_int", M),))), None),
    ("expm1", op("add", op("expm1", op("sub", S, M)), 1.0), None),
]


@pytest.mark.parametrize(("name", "expr", "k"), KNOWN, ids=[k[0] for k in KNOWN])
def test_degree(name: str, expr: Expr, k: float | None) -> None:
    assert degree(expr) == (None if k is None else pytest.approx(k, rel=1e-12))


ACC, MASS = sym("acc"), sym("mass")
LOG_MASS = op("log", MASS)
POSITIVE = op("gt", MASS, 0.0)
RESULTS: list[tuple[str, Expr, float, bool]] = [
    ("a mean", op("truediv", ACC, MASS), 1.0, True),
    ("a safe mean", op("safe_div", ACC, MASS), 2.5, True),
    ("a guarded mean", op("truediv", ACC, op("where", POSITIVE, MASS, op("neg", MASS))), 1.0, True),
    ("with the sum of values", op("add", op("truediv", ACC, MASS), op("mul", 0.5, sym("vsum"))), 1.0, True),
    ("unanchored", op("mul", ACC, op("exp", M)), 1.0, True),
    ("unanchored at another rate", op("mul", ACC, op("exp", M)), 2.0, False),
    ("a constant beside the mass", op("truediv", ACC, op("add", MASS, 1e-6)), 1.0, False),
    ("a constant at the anchor", op("truediv", ACC, op("add", MASS, op("exp", op("neg", M)))), 1.0, True),
    ("a log-sum-exp", op("add", M, LOG_MASS), 1.0, True),
    ("a log-sum-exp of squares", op("add", M, op("truediv", LOG_MASS, 2.0)), 2.0, True),
    ("a log-sum-exp at a wrong rate", op("add", M, LOG_MASS), 2.0, False),
    ("a test of the mass", op("where", op("gt", MASS, 1.0), op("truediv", ACC, MASS), 0.0), 1.0, False),
    ("the sum alone", ACC, 1.0, False),
    ("a count", sym("count"), 1.0, True),
]


@pytest.mark.parametrize(("name", "expr", "k", "stays"), RESULTS, ids=[r[0] for r in RESULTS])
def test_invariance(name: str, expr: Expr, k: float, stays: bool) -> None:
    assert is_invariant(expr, k) is stays


def value(expr: Expr, s: float, m: float) -> float:
    import torch

    return float(evaluate(expr, Environment({"s": torch.tensor(s).double(), "m": torch.tensor(m).double()})))


def grown(rng: random.Random, kind: Type, depth: int) -> Expr:
    if kind == "float" and rng.random() < 0.35:
        return rng.choice([S, M, EXP, FLOOR, const(0.0), const(1.5), const(-2.0)])
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


def row(expr: Expr, acc: float, mass: float, m: float) -> float:
    import torch

    at = {"acc": acc, "mass": mass, "m": m}
    return float(evaluate(expr, Environment({name: torch.tensor(x, dtype=torch.float64) for name, x in at.items()})))


def test_results_that_are_proven_invariant_are() -> None:
    rng, proven = random.Random(1), 0
    leaves = [ACC, MASS, M, op("truediv", ACC, MASS), LOG_MASS, op("exp", M), const(0.0), const(1.5)]
    for _ in range(2500):
        k = rng.choice([1.0, 2.0])
        expr = drawn(rng, leaves, 3)
        if not symbols(expr) or not is_invariant(expr, k):
            continue
        proven += 1
        for _ in range(4):
            acc, mass, m, t = rng.uniform(-2, 2), rng.uniform(0.1, 3), rng.uniform(-1, 1), rng.uniform(-1, 1)
            before, after = row(expr, acc, mass, m), row(expr, acc * math.exp(-k * t), mass * math.exp(-k * t), m + t)
            if math.isfinite(before) and math.isfinite(after) and abs(before) < 1e12:
                assert after == pytest.approx(before, rel=1e-6, abs=1e-9), (expr, acc, mass, m, t)
    assert proven > 20


def drawn(rng: random.Random, leaves: list[Expr], depth: int) -> Expr:
    if depth == 0 or rng.random() < 0.2:
        return rng.choice(leaves)
    name, types = rng.choice([s for s in signatures("float", UNORDINARY) if set(s[1]) <= {"float"} and s[0] != "pow"])
    return op(name, *(drawn(rng, leaves, depth - 1) for _ in types))
