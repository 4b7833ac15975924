"""Columns and diagonals that were found to matter."""

# mypy: allow-untyped-defs
from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.arguments import refuse, tensor
from attngen.frontend import static
from attngen.masks.mask import Mask

if TYPE_CHECKING:
    from torch import Tensor

SHAPES = "(H, N) or (B, H, N)"


def vertical_slash(columns: Tensor, diagonals: Tensor) -> Mask:
    """The keys of some columns and the keys at some distances; causal. A key that is both counts once.

    With i = q + n_k - n_q (bottom-right aligned): kv <= i and (columns[.., kv] or diagonals[.., i - kv]), so a row sees
    as many keys as there are columns and diagonals up to it. Both are bool tensors of one shape, (H, N) or (B, H, N)
    with N >= n_k: `torch.zeros(b, h, n, dtype=torch.bool).scatter_(-1, indices, True)` makes one of lists of indices.
    Source: MInference, arXiv 2407.02490, which keeps whole blocks of 64 along each diagonal; `diagonals` may have them.
    """
    import torch

    columns = tensor("columns", columns, (2, 3), SHAPES, integral=True)
    diagonals = tensor("diagonals", diagonals, (2, 3), SHAPES, integral=True)
    for name, given in (("columns", columns), ("diagonals", diagonals)):
        if given.dtype != torch.bool or given.shape != columns.shape:
            raise refuse(name, given, f"a bool tensor {SHAPES}, columns and diagonals alike")
    batched = static(columns.dim() == 3)

    def mask(b, h, q, kv, n_q, n_k):
        distance = q + (n_k - n_q) - kv
        row = (b, h) if batched else (h,)
        return (distance >= 0) & (columns[*row, kv] | diagonals[*row, torch.clamp(distance, min=0)])

    return Mask.of(mask, "vertical_slash")
