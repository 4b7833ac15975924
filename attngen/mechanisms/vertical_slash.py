"""Columns and diagonals, given per call."""

from __future__ import annotations

from typing import Any

from attngen.builder import Builder
from attngen.ir.nodes import Branch, Dot
from attngen.spec import Spec

DISTANCE = "(q + n_k - n_q - kv)"
SEEN = f"{DISTANCE} >= 0 and (bool:columns[b, h, kv] or bool:diagonals[b, h, maximum({DISTANCE}, 0)])"


def vertical_slash(*, score: Any = None, normalizer: Any = "softmax", scale: Any = None) -> Spec:
    """Causal attention to the keys of some columns, and at some distances, of each batch and head.

    `kernel(q, k, v, columns=..., diagonals=...)`: bool tensors (B, H, Nk); entry kv of `columns` says whether key kv is
    seen by all later queries, entry d of `diagonals` whether the key d before each query is. For captured ones, and for
    how many keys a row sees, see `masks.vertical_slash`. Source: MInference, arXiv 2407.02490.
    """
    builder = Builder()
    branch = Branch(
        mask=builder.mask(SEEN),
        score=builder.score(score),
        normalizer=builder.normalizer(normalizer),
        dots=(Dot(scale=builder.scale(scale)),),
    )
    for name in ("columns", "diagonals"):
        builder.input(name, ("b", "h", "kv"), "bool")
    return Spec.from_ir(*builder.build(branch, name="vertical_slash"))
