"""Softmax, with a sink and with unbiased rounding."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from attngen.arguments import each, head_numbers, one_of
from attngen.normalizers.declare import streaming
from attngen.normalizers.normalizer import Normalizer
from attngen.remember import remembered

if TYPE_CHECKING:
    from torch import Tensor

ADJUSTED = math.log(256 / 157)
"""The offset of numerics="adjusted", about 0.489.

Any offset in (0, 1/2] keeps the largest weight of a row below 1. This one makes it exp(-offset) = 157/256, which bf16
and fp16 hold exactly: the numerator (rounded weights) and the mass (weights in fp32) then agree for the largest key, so
a row with one dominant key is as exact as without the offset; 157 is odd, so products use all eight bits.
"""


@remembered
def softmax(sink: float | Tensor | None = None, numerics: Literal["adjusted"] | None = None) -> Normalizer:
    """exp(s) / sum exp(s). With a sink, exp(s) / (exp(sink) + sum exp(s)): a key of value 0 that every row sees.

    `sink` is a number or a float tensor, () or (H,) with one learned logit per query head (gpt-oss). The log-sum-exp
    includes it.
    numerics="adjusted" keeps every low-precision weight below 1, which removes the biased rounding of rows whose
    maximum is tied (arXiv 2510.04212); the result is the same in exact arithmetic. An empty row gives 0.
    """
    import torch

    if sink is not None:
        sink = head_numbers("sink", sink)
    if numerics is not None:
        one_of("numerics", numerics, ("adjusted",))
    return streaming(
        "softmax",
        phi=lambda s, m: torch.exp(s - m),
        psi=lambda s, m: torch.exp(s - m),
        anchor=lambda s: s,
        offset=ADJUSTED if numerics else 0.0,
        sink=None if sink is None else lambda h: each(sink, h),
        lse=lambda m, mass: m + torch.log(mass),
    )
