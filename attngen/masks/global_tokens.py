"""Tokens that see all and that all see."""

# mypy: allow-untyped-defs
from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.arguments import each, per_head
from attngen.masks.mask import Mask
from attngen.remember import remembered

if TYPE_CHECKING:
    from torch import Tensor


@remembered
def global_tokens(n: int | Tensor) -> Mask:
    """The first `n` tokens are global: their rows see all n_k keys, and every other row sees their min(n, n_k) keys.

    With i = q + n_k - n_q (bottom-right aligned): i < n or kv < n. No causality is implied, and nothing else is seen:
    combine as `global_tokens(64) | window(256, 256)`. `n` >= 0, or an integer tensor (H,), one per query head. Source:
    Longformer, arXiv 2004.05150; BigBird, arXiv 2007.14062.
    """
    n = per_head("n", n, low=0)

    def mask(h, q, kv, n_q, n_k):
        return (q + (n_k - n_q) < each(n, h)) | (kv < each(n, h))

    return Mask.of(mask, "global_tokens")
