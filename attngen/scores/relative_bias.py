"""A learned bias for every distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.arguments import refuse, tensor
from attngen.remember import remembered
from attngen.scores.score import Score

if TYPE_CHECKING:
    from torch import Tensor


@remembered
def relative_bias(table: Tensor) -> Score:
    """score + table[h, q - kv + L - 1], with `table` a float tensor (H, 2 L - 1), one row per query head.

    L is the longest sequence: n_q and n_k are at most L, or the call is refused. Positions count from the start of both
    sequences, also where n_q != n_k. Gradients flow to `table`. Source: T5's bias without buckets, arXiv 1910.10683.
    """
    table = tensor("table", table, (2,), "(H, 2 L - 1)", integral=False)
    if table.shape[1] % 2 == 0:
        raise refuse("table", table, "a floating-point tensor (H, 2 L - 1), whose last size is odd")
    return Score.of(lambda score, h, q, kv: score + table[h, q - kv + table.shape[1] // 2], "relative_bias")
