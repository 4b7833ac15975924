"""What a kernel is built for, beyond the spec: dtypes and head widths. Lengths, strides and numbers stay run-time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dtype = Literal["fp64", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor as a kernel sees it: element type (torch's name, without the prefix) and rank.

    `width` is the extent of the last axis where a view or a projection reads it; 0 otherwise, extents are run-time.
    """

    name: str
    dtype: str
    rank: int
    width: int


@dataclass(frozen=True, slots=True)
class Problem:
    """The compile-time facts of a call. `operands` holds q, k, v and every input tensor, in the order of the launch."""

    dtype: Dtype
    operands: tuple[Operand, ...]
    return_lse: bool

    def operand(self, name: str) -> Operand:
        """The operand of that name."""
        return next(o for o in self.operands if o.name == name)
