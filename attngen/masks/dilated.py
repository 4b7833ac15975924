"""The dilated window."""

# mypy: allow-untyped-defs
from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.arguments import each, per_head
from attngen.masks.mask import Mask
from attngen.remember import remembered

if TYPE_CHECKING:
    from torch import Tensor


@remembered
def dilated(window: int | Tensor, dilation: int | Tensor) -> Mask:
    """Every `dilation`-th key around the query, `window` of them on each side.

    With i = q + n_k - n_q (bottom-right aligned): |i - kv| <= window * dilation and (i - kv) % dilation == 0, so a row
    sees 2 * window + 1 keys away from the borders and fewer near them. No causality is implied: with `causal(...)` it
    sees window + 1. `window` >= 0, `dilation` >= 1; each may be an integer tensor (H,), one per query head. Source:
    Longformer, arXiv 2004.05150.
    """
    window = per_head("window", window, low=0)
    dilation = per_head("dilation", dilation, low=1)

    def mask(h, q, kv, n_q, n_k):
        distance = q + (n_k - n_q) - kv
        step = each(dilation, h)
        return (abs(distance) <= each(window, h) * step) & (distance % step == 0)

    return Mask.of(mask, "dilated")
