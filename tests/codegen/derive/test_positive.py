"""`is_positive` is never wrong, and proves the scales that people write."""

from __future__ import annotations

import random

import pytest
import torch

from attngen.codegen.derive.positive import SIZES, is_positive
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import Expr, const, load, op, sym
from attngen.ir.nodes import default_scale
from tests.codegen.printers.random_trees import tree

PROVEN = [
    default_scale(),
    const(0.25),
    op("mul", const(2.0), op("rsqrt", op("to_float", sym("d")))),
    op("truediv", 1.0, sym("n_k")),
    op("maximum", const(-1.0), const(0.1)),
    op("exp", sym("q")),
]
OPEN = [
    const(0.0),
    const(-1.0),
    const(float("inf")),
    const(float("nan")),
    sym("q"),
    load("scale", (sym("h"),)),
    op("sub", sym("d"), 1),
    op("log", op("to_float", sym("n_k"))),
    op("minimum", const(1.0), sym("q")),
]


@pytest.mark.parametrize("expr", PROVEN, ids=repr)
def test_proven(expr: Expr) -> None:
    assert is_positive(expr)


@pytest.mark.parametrize("expr", OPEN, ids=repr)
def test_not_proven(expr: Expr) -> None:
    assert not is_positive(expr)


def test_what_is_proven_holds() -> None:
    rng, proven = random.Random(0), 0
    sizes = tuple(sorted(SIZES - {"n_visible"}))
    for _ in range(4000):
        expr = tree(rng, "float", 3, sizes)
        if not is_positive(expr):
            continue
        proven += 1
        env = Environment({name: torch.tensor([1, 7, 4096]) for name in sizes})
        found = evaluate(expr, env)
        # Numbers end somewhere: what underflows is 0, and NaN stays NaN.
        assert bool((found >= 0).logical_or(found.isnan()).all()), expr
    assert proven > 100
