"""The free choices of a Triton kernel."""

from __future__ import annotations

from dataclasses import dataclass

from attngen.codegen.plan import Plan


@dataclass(frozen=True, slots=True)
class TritonConfig:
    """Queries and keys of a tile, warps of a block, stages of the software pipeline, and how fp32 products are taken.

    `precision` is `tl.dot`'s input_precision: "ieee", "tf32x3" or "tf32"; it says nothing to 16-bit types.
    """

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int
    precision: str

    def __str__(self) -> str:
        return f"m{self.block_m} n{self.block_n} w{self.num_warps} s{self.num_stages} {self.precision}"


def room(width: int) -> int:
    """The channels of a tile that holds vectors of this width: a power of two, and what a matrix product needs."""
    return max(16, 1 << (width - 1).bit_length())


def default(plan: Plan) -> TritonConfig:
    """The first guess."""
    widest = max(room(w) for b in plan.branches for w in (b.width, *(d.width for k in b.keysets for d in k.dots)))
    if plan.problem.dtype == "fp32":
        return TritonConfig(64, 32, 4, 2, "tf32x3")
    if widest <= 64:
        return TritonConfig(128, 64, 4, 3, "ieee")
    return TritonConfig(128, 64, 8, 3, "ieee") if widest <= 128 else TritonConfig(64, 32, 4, 2, "ieee")
