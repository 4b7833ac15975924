"""The free choices of a Triton kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attngen.codegen.plan import Plan


@dataclass(frozen=True, slots=True)
class TritonConfig:
    """Queries and keys of a tile, warps of a block, stages of the software pipeline, and how fp32 products are taken.

    `precision` is `tl.dot`'s input_precision: "ieee", "tf32x3" or "tf32"; it says nothing to 16-bit types.
    `lookups`: how single elements of tensors are read for each pair, by an instruction of NVIDIA's or by Triton's load.
    """

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int
    precision: str
    lookups: Literal["inline", "load"] = "inline"

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and keys of a tile."""
        return self.block_m, self.block_n

    def __str__(self) -> str:
        return f"m{self.block_m} n{self.block_n} w{self.num_warps} s{self.num_stages} {self.precision} {self.lookups}"


@dataclass(frozen=True, slots=True)
class GradientConfig:
    """The free choices of a backward: those of the kernel that loops over keys, and of the one that loops over queries.

    Both read the same modules, so `precision` and `lookups` are those of the first.
    """

    queries: TritonConfig
    keys: TritonConfig

    def __str__(self) -> str:
        return f"queries {self.queries}; keys {self.keys}"


def room(width: int) -> int:
    """The channels of a tile that holds vectors of this width: a power of two, and what a matrix product needs."""
    return max(16, 1 << (width - 1).bit_length())


def default(plan: Plan, major: int = 9) -> TritonConfig:
    """The first guess for devices of a compute capability: what the static lint accepts there."""
    keysets = [keyset for branch in plan.branches for keyset in branch.keysets]
    widest = max(room(w) for b in plan.branches for w in (b.width, *(d.width for k in b.keysets for d in k.dots)))
    # What a table says has to be there before the keys that it speaks of.
    tables = any(keyset.ranges is None for keyset in keysets)
    stages = 3 if tables else 2
    if plan.problem.dtype == "fp32":
        return TritonConfig(64 if major >= 9 and widest <= 64 else 32, 32, 8, stages, "tf32x3")
    if widest > 128 or any(branch.scan for branch in plan.branches):
        return TritonConfig(64, 32, 4, stages, "tf32x3")
    if major == 9:
        return TritonConfig(128, 64, 8, stages, "tf32x3")
    # Elsewhere products take more of the registers.
    boxes = any(keyset.ranges and keyset.ranges.axes for keyset in keysets)
    if tables or boxes or any(branch.passes for branch in plan.branches):
        return TritonConfig(64, 32, 8, stages, "tf32x3")
    return TritonConfig(128, 32 if major >= 10 or widest > 64 else 64, 8, stages, "tf32x3")


def default_backward(plan: Plan, major: int = 9) -> GradientConfig:
    """The same for a backward."""
    widest = max(room(w) for b in plan.branches for w in (b.width, *(d.width for k in b.keysets for d in k.dots)))
    if plan.problem.dtype == "fp32" or widest > 128:
        return GradientConfig(TritonConfig(32, 32, 4, 1, "tf32x3"), TritonConfig(32, 32, 4, 1, "tf32x3"))
    return GradientConfig(TritonConfig(64, 64, 4, 2, "tf32x3"), TritonConfig(64, 64, 4, 2, "tf32x3"))
