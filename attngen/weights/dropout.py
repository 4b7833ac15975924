"""Dropout on the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.arguments import integer, is_tensor, number, refuse
from attngen.weights.uniform import uniform
from attngen.weights.weight import Weight

if TYPE_CHECKING:
    from torch import Tensor


def dropout(p: float, seed: int | Tensor) -> Weight:
    """1 / (1 - p) with probability 1 - p, else 0, independently for every (b, h, q, kv).

    The random number depends on the seed and on the four indices alone: backward sees the same pattern, as does any
    tiling and any number of threads. 0 <= p < 1 is a run-time number. `seed` is an int in 0 .. 2^63 - 1, or an integer
    tensor (1,) that is read anew at every call: fill it with a new number for each step.
    """
    import torch

    if number("p", p, low=0, allowed="a number, 0 <= p < 1") >= 1:
        raise refuse("p", p, "a number, 0 <= p < 1")
    p = float(p)
    if is_tensor(seed):
        if tuple(seed.shape) != (1,) or seed.dtype.is_floating_point:
            raise refuse("seed", seed, "an integer >= 0, or an integer tensor (1,)")
        return Weight.of(lambda: torch.where(uniform(seed[0]) >= p, 1.0 / (1.0 - p), 0.0), "dropout")
    seed = integer("seed", seed, 0, 2**63 - 1, allowed="an integer >= 0, or an integer tensor (1,)")
    return Weight.of(lambda: torch.where(uniform(seed) >= p, 1.0 / (1.0 - p), 0.0), "dropout")
