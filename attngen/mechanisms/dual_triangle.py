"""Dual triangle attention: half of a head looks back, half looks ahead."""

from __future__ import annotations

from typing import Any, Literal

from attngen.arguments import one_of
from attngen.builder import Builder
from attngen.frontend import static
from attngen.ir.expr import Expr, op, sym
from attngen.ir.nodes import Branch, Concat, Dot, View
from attngen.masks.mask import Mask
from attngen.spec import Spec

HALF = op("floordiv", sym("d"), 2)


def dual_triangle(
    layout: Literal["within_head", "across_heads", "joint"] = "within_head",
    *,
    mask: Any = None,
    normalizer: Any = "softmax",
) -> Spec:
    """Every head is split in halves of D/2; one half sees keys kv <= q, the other kv >= q, both the diagonal.

    "within_head": the first half of each head looks back, the second ahead (the paper's text).
    "across_heads": half i of head h looks back if 2 h + i < H, else ahead (the released code, bit for bit).
        In both, q, k and v are split, each half has its own softmax and scale 1 / sqrt(D/2), and the results are put
        side by side.
    "joint": one softmax over all keys; the score is the first half's for kv <= q and the second half's for kv > q, both
        scaled by 1 / sqrt(D/2); v is not split (the earlier variant).

    D is even. `mask` is a further condition, such as padding: `lambda b, q, kv: (q < n[b]) & (kv < n[b])`. Rotary
    embeddings are applied before, on the whole head, with interleaved pairs. Source: arXiv 2604.18603;
    lhallee/position_encoding_exp.
    """
    one_of("layout", layout, ("within_head", "across_heads", "joint"))
    builder = Builder()
    if layout == "joint":
        dots = (_dot(None, HALF), _dot(HALF, None))
        join = op("where", op("gt", sym("kv"), sym("q")), sym("dot[1]"), sym("dot[0]"))
        joint = Branch(builder.normalizer(normalizer), dots=dots, join=join, mask=builder.mask(mask))
        return Spec.from_ir(*builder.build(joint, name="dual_triangle_joint"))
    halves = [_half(builder, half, layout, mask, normalizer) for half in range(2)]
    return Spec.from_ir(*builder.build(*halves, combine_by=Concat(), name=f"dual_triangle_{layout}"))


def _half(builder: Builder, half: int, layout: str, mask: Any, normalizer: Any) -> Branch:
    start, stop = (None, HALF) if half == 0 else (HALF, None)
    triangle = _within_head(half) if layout == "within_head" else _across_heads(half)
    return Branch(
        builder.normalizer(normalizer),
        dots=(_dot(start, stop),),
        v=View("v", start=start, stop=stop),
        mask=builder.mask(triangle if mask is None else triangle & mask),
    )


def _dot(start: Expr | None, stop: Expr | None) -> Dot:
    return Dot(View("q", start=start, stop=stop), View("k", start=start, stop=stop))


def _within_head(half: int) -> Mask:
    return Mask.of((lambda q, kv: kv >= q) if half else (lambda q, kv: kv <= q))


def _across_heads(half: int) -> Mask:
    half = static(half)

    def triangle(h: Any, n_h: Any, q: Any, kv: Any) -> Any:
        back = 2 * h + half < n_h
        return (back & (kv <= q)) | (~back & (kv >= q))

    return Mask.of(triangle)
