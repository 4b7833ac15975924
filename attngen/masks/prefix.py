"""The first keys, as in a prefix language model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.arguments import each, per_head
from attngen.masks.mask import Mask
from attngen.remember import remembered

if TYPE_CHECKING:
    from torch import Tensor


@remembered
def prefix(n: int | Tensor) -> Mask:
    """Keys kv < n: every row sees min(n, n_k) keys. No causality is implied.

    `n` >= 0, or an integer tensor (H,), one per query head.
    Combine as `prefix(n) | causal()`: bidirectional within the prefix, causal after it. Source: T5's prefix LM, arXiv
    1910.10683.
    """
    n = per_head("n", n, low=0)
    return Mask.of(lambda h, kv: kv < each(n, h), "prefix")
