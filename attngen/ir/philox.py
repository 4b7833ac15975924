"""Philox4x32-10 in 64-bit torch integers: the counter-based random numbers behind `uniform`.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    Words = tuple[Tensor, Tensor, Tensor, Tensor]

MASK = 0xFFFFFFFF
FACTORS = (0xD2511F53, 0xCD9E8D57)
STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10


def _product(factor: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """The high and the low word of factor * x; in halves of x, because the product does not fit into int64."""
    low = factor * (x & 0xFFFF)
    high = factor * (x >> 16) + (low >> 16)
    return high >> 16, ((high & 0xFFFF) << 16) | (low & 0xFFFF)


def philox(counter: Words, key: tuple[Tensor, Tensor]) -> Words:
    """Four random words of 32 bits for four counter words and two key words, elementwise."""
    c0, c1, c2, c3 = (word & MASK for word in counter)
    k0, k1 = (word & MASK for word in key)
    for _ in range(ROUNDS):
        high0, low0 = _product(FACTORS[0], c0)
        high1, low1 = _product(FACTORS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + STEPS[0]) & MASK, (k1 + STEPS[1]) & MASK
    return c0, c1, c2, c3


def uniform(seed: Tensor, b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
    """A float64 in [0, 1) for each index: the upper 24 bits of a word, times 2**-24.

    A counter serves four keys: key kv has word kv // 16 % 4 of the counter (kv // 64 * 16 + kv % 16, q, h, b).
    """
    import torch

    kv, q, h, b, low, high = torch.broadcast_tensors(kv, q, h, b, seed & MASK, (seed >> 32) & MASK)  # type: ignore[no-untyped-call]
    words = philox((kv // 64 * 16 + kv % 16, q, h, b), (low, high))
    word = torch.stack(words).gather(0, (kv // 16 % 4)[None])[0]
    return (word >> 8).to(torch.float64) * 2.0**-24
