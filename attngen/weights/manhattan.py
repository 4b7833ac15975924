"""The decay of retentive vision models."""

# mypy: allow-untyped-defs
from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.arguments import integer, tensor
from attngen.frontend import static
from attngen.weights.weight import Weight

if TYPE_CHECKING:
    from torch import Tensor


def manhattan(log_decay: Tensor, dims: int = 2) -> Weight:
    """exp(log_decay[h] * (|q[0] - kv[0]| + ... )), the Manhattan distance on a grid of `dims` dimensions.

    `log_decay` is a float tensor (H,) of numbers <= 0, one per query head, to which gradients flow; RMT takes
    log(1 - 2 ** (-a - b * h / H)). Needs `space=attngen.Grid(...)`. Source: RMT, arXiv 2309.11523.
    """
    import torch

    log_decay = tensor("log_decay", log_decay, (1,), "(H,)", integral=False)
    rank = static(integer("dims", dims, 1, 3))

    def weight(h, q, kv):
        distance = abs(q[0] - kv[0])
        for i in range(1, rank):
            distance = distance + abs(q[i] - kv[i])
        return torch.exp(log_decay[h] * distance)

    return Weight.of(weight, "manhattan")
