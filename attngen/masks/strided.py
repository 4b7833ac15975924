"""The strided pattern of Sparse Transformers."""

# mypy: allow-untyped-defs
from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.arguments import each, per_head
from attngen.masks.mask import Mask
from attngen.remember import remembered

if TYPE_CHECKING:
    from torch import Tensor


@remembered
def strided(stride: int | Tensor) -> Mask:
    """The last `stride` keys up to the query's own position, and every `stride`-th key before them; causal.

    With i = q + n_k - n_q (bottom-right aligned) and distance i - kv >= 0: distance < stride or distance % stride == 0,
    so a row sees min(i + 1, stride) + i // stride keys, none where i < 0. `stride` >= 1, or an integer tensor (H,), one
    per query head. It is the union of the two sets that the paper also gives to heads or layers apart. Source: Sparse
    Transformers, arXiv 1904.10509. (Strides of windows on a grid are the `stride` of `neighborhood`.)
    """
    stride = per_head("stride", stride, low=1)

    def mask(h, q, kv, n_q, n_k):
        distance, step = q + (n_k - n_q) - kv, each(stride, h)
        return (distance >= 0) & ((distance < step) | (distance % step == 0))

    return Mask.of(mask, "strided")
