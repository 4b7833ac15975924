"""Differential attention: the difference of two softmaxes over one V."""

from __future__ import annotations

from typing import Any

from attngen.builder import Builder
from attngen.ir.expr import Expr, const, op, sym
from attngen.ir.nodes import Affine, Branch, Dot, View
from attngen.spec import Spec

HALF = op("floordiv", sym("d"), 2)


def differential(lam: Any, *, mask: Any = None, score: Any = None, normalizer: Any = "softmax") -> Spec:
    """O = A1 V - lam * A2 V: A1 attends with the first half of the head dimension of q and k, A2 with the second.

    q (B, H, Nq, 2 D), k (B, Hk, Nk, 2 D), v (B, Hv, Nk, Dv), result (B, H, Nq, Dv); scale 1 / sqrt(D). The 2 H heads of
    width D of the published code are the same memory, pair by pair. `lam` is a number, a float tensor (H,) or
    (B, H, Nq), a function of b, h, q, or a text such as "lam[h]", then given per call; gradients flow to tensors. The
    norm per head and the factor 1 - lambda_init that follow are left to the caller (none in the second version, where
    lam is a sigmoid of the token). Source: Differential Transformer, arXiv 2410.05258.
    """
    builder = Builder()
    minus = op("neg", builder.coefficient("lam", lam))
    seen, scored, rule = builder.mask(mask), builder.score(score), builder.normalizer(normalizer)
    first, second = (Branch(rule, dots=(dot,), mask=seen, score=scored) for dot in (_dot(None, HALF), _dot(HALF, None)))
    combine = Affine((const(1.0), minus))
    return Spec.from_ir(*builder.build(first, second, combine_by=combine, name="differential"))


def _dot(start: Expr | None, stop: Expr | None) -> Dot:
    return Dot(View("q", start=start, stop=stop), View("k", start=start, stop=stop))
