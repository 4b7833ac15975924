"""The factor that a score is multiplied by before anything else: a dot has its own place for it."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import torch

from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import Const, Expr, Load, Op, const, loads, postorder, rebuild, sym, symbols
from attngen.ir.nodes import default_scale
from attngen.lift.fold import fold

SCORE = sym("score")
ROW = frozenset({"b", "h", "q", "n_q", "n_k"})


def scaled(score: Expr, width: Any) -> tuple[Expr, Expr]:
    """(scale, the score over the scaled dot). `width`: the head dimension; 1 / sqrt(width) is the usual scale."""
    scale: Expr = const(1.0)
    while True:
        uses = dict.fromkeys(n for n in postorder(score) if SCORE in n.children)
        factor = _factor(next(iter(uses))) if len(uses) == 1 else None
        if factor is None:
            break
        use = next(iter(uses))
        scale = fold("mul", (scale, factor), factor.source)
        score = rebuild(score, lambda node, use=use: SCORE if node == use else None)  # type: ignore[misc]
    if (
        isinstance(scale, Const)
        and isinstance(width, int)
        and math.isclose(float(scale.value) * math.sqrt(width), 1.0, rel_tol=1e-6)
    ):
        return default_scale(), score
    return scale, score


def by_width(scale: Expr, widths: Collection[str]) -> Expr:
    """The scale where inputs of these names are the head dimension, whose symbol it has in a Spec."""
    known = rebuild(scale, lambda node: sym("d") if isinstance(node, Load) and node.tensor in widths else None)
    if loads(known) or symbols(known) != {"d"}:
        return scale
    tried = (float(evaluate(known, Environment({"d": torch.tensor(d)}))) * math.sqrt(d) for d in (64, 48))
    return default_scale() if all(math.isclose(found, 1.0, rel_tol=1e-5) for found in tried) else known


def _factor(use: Expr) -> Expr | None:
    """What one use of the score multiplies it by, where that is one finite number for a row."""
    match use:
        case Op(name="mul", args=(a, b)) if a == SCORE:
            factor = b
        case Op(name="mul", args=(a, b)) if b == SCORE:
            factor = a
        case Op(name="truediv", args=(a, b)) if a == SCORE:
            factor = fold("truediv", (const(1.0), b), use.source)
        case Op(name="neg", args=(a,)) if a == SCORE:
            factor = const(-1.0)
        case _:
            return None
    if isinstance(factor, Const):
        return const(float(factor.value), factor.source) if math.isfinite(factor.value) else None
    if symbols(factor) - ROW:
        return None
    return factor if factor.type == "float" else fold("to_float", (factor,), factor.source)
