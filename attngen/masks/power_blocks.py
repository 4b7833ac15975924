"""PowerAttention: blocks at distances that are powers of two."""

# mypy: allow-untyped-defs
from __future__ import annotations

from attngen.arguments import integer
from attngen.frontend import static
from attngen.masks.mask import Mask
from attngen.remember import remembered


@remembered
def power_blocks(block: int = 256, window: int = 1, sinks: int = 1) -> Mask:
    """Keys of blocks at the distances 1, 2, 4, 8, ... before the query's own, of its own, and of the first; causal.

    With i = q + n_k - n_q (bottom-right aligned) and d = i // block - kv // block: kv <= i, and d < `window`, or
    kv // block < `sinks`, or d is a power of two. In block n a row sees its own block up to itself and about
    log2(n) + 1 whole ones, so that what n layers pass on reaches 2 ** n blocks. `block` >= 1, a constant of the kernel;
    `window` >= 1 and `sinks` >= 0 in blocks. Source: PowerAttention, arXiv 2503.03588.
    """
    block = static(integer("block", block, 1))
    integer("window", window, 1)
    integer("sinks", sinks, 0)

    def mask(q, kv, n_q, n_k):
        i = q + (n_k - n_q)
        d = i // block - kv // block
        return (kv <= i) & ((d < window) | (kv // block < sinks) | ((d & (d - 1)) == 0))

    return Mask.of(mask, "power_blocks")
