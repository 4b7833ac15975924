"""Linear attention."""

from __future__ import annotations

from typing import Any

from attngen.builder import Builder
from attngen.ir.expr import Expr, const
from attngen.ir.nodes import Branch, Dot, View
from attngen.mechanisms.features import feature_map as features
from attngen.spec import Spec


def linear(
    feature_map: str | Expr = "elu", *, mask: Any = None, decay: bool = False, normalizer: Any = "linear"
) -> Spec:
    """phi(q) (phi(k)^T V) / (phi(q) sum phi(k)): the product is taken over the keys first, so the cost is linear in N.

    `feature_map` phi: "elu" (elu(x) + 1), "softmax" (over the head dimension), "relu", or an expression in `x`. With
    `mask=masks.causal()` it runs by chunks; `decay` adds an input `log_decay` (B, H, N), given per call, whose running
    sum damps distant keys. `normalizer` "none" leaves out the division (retention). Source: Transformers are RNNs,
    arXiv 2006.16236.
    """
    builder = Builder()
    feature = features(feature_map)
    branch = Branch(
        builder.normalizer(normalizer),
        dots=(Dot(View("q", feature=feature), View("k", feature=feature), const(1.0)),),
        mask=builder.mask(mask),
        decay=builder.input("log_decay", ("b", "h", "kv")) if decay else None,
    )
    return Spec.from_ir(*builder.build(branch, name="linear"))
