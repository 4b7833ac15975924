"""BigBird: windows, global tokens and random keys, in blocks."""

# mypy: allow-untyped-defs
from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.arguments import integer, tensor
from attngen.frontend import static
from attngen.masks.mask import Mask
from attngen.remember import remembered

if TYPE_CHECKING:
    from torch import Tensor


@remembered
def bigbird(block: int, random_blocks: Tensor | None = None) -> Mask:
    """Keys of the query's own block and its two neighbours, of the first and the last block, and of random blocks.

    Blocks have `block` tokens, the last one what is left. Rows of the first and the last block see all n_k keys, others
    at most 5 * block, and up to `block` more for each of their random blocks. Queries and keys are numbered alike, for
    n_q = n_k. `random_blocks` is an integer tensor (H, blocks, r): the r key blocks that the queries of each block see;
    equal ones count once. `block` >= 1 is a constant of the kernel. Source: BigBird, arXiv 2007.14062, and its code
    (block_size, num_random_blocks), which draws them from those that are not seen anyway.
    """
    block = static(integer("block", block, 1))

    def local(q, kv, n_q, n_k):
        i, j = q // block, kv // block
        last, last_row = (n_k - 1) // block, (n_q - 1) // block
        return (abs(i - j) <= 1) | (i == 0) | (j == 0) | (i == last_row) | (j == last)

    mask = Mask.of(local, "bigbird")
    if random_blocks is None:
        return mask
    table = tensor("random_blocks", random_blocks, (3,), "(H, blocks, r)", integral=True)
    count = static(table.shape[2])

    def drawn(h, q, kv):
        found = kv < 0
        for i in range(count):
            found = found | (table[h, q // block, i] == kv // block)
        return found

    return (mask | drawn).called("bigbird")
