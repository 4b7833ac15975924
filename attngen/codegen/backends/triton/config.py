"""The free choices of a Triton kernel."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import prod
from typing import Literal, get_args

from attngen.codegen.analysis import IndexClass, accesses, turned_ranges
from attngen.codegen.analysis.blocks import common_blocks
from attngen.codegen.analysis.boxes import best_shape
from attngen.codegen.boxes import Boxes
from attngen.codegen.plan import Plan
from attngen.codegen.tiling import box_axes
from attngen.errors import InputError
from attngen.ir.nodes import Grid

Lookups = Literal["inline", "load"]
Loops = Literal["split", "one"]
Loads = Literal["pointer", "descriptor"]

FORM = "m128 n64 w8 s2 tf32x3 inline split pointer, then specialize, box_m4x32 and box_n8x8 where they apply"
_BOX = r"(?: box_{}(\d+(?:x\d+)*))?"
_TEXT = re.compile(
    rf"m(\d+) n(\d+) w(\d+) s(\d+) (ieee|tf32x3|tf32) ({'|'.join(get_args(Lookups))}) ({'|'.join(get_args(Loops))}) "
    rf"({'|'.join(get_args(Loads))})( specialize)?{_BOX.format('m')}{_BOX.format('n')}"
)


@dataclass(frozen=True, slots=True)
class TritonConfig:
    """Queries and keys of a tile, warps of a block, stages of the software pipeline, and how fp32 products are taken.

    `precision` is `tl.dot`'s input_precision: "ieee", "tf32x3" or "tf32"; it says nothing to 16-bit types. `lookups`:
    how single elements of tensors are read for each pair, by an instruction of NVIDIA's or by Triton's load. `loops`:
    tiles that need the mask and then the others, without it, or all of them in one loop. `loads`: whether tiles of
    aligned tensors come through descriptors, which devices from sm_90 on have an engine for. `specialize`: warps with
    roles of their own, which takes one loop without a branch, four warps and descriptors. `box_m`, `box_n`: on a grid,
    the sides of the boxes that query tiles and key tiles are; without them they are runs of tokens.
    """

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int
    precision: str
    lookups: Lookups = "inline"
    loops: Loops = "split"
    loads: Loads = "pointer"
    specialize: bool = False
    box_m: tuple[int, ...] = ()
    box_n: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, size in (("box_m", self.block_m), ("box_n", self.block_n)):
            box = tuple(getattr(self, name))  # JSON has lists
            object.__setattr__(self, name, box)
            if box and prod(box) != size:
                raise InputError(f"{name}: got sides {box}; their product is that of a tile, {size} tokens")

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and keys of a tile."""
        return self.block_m, self.block_n

    def __str__(self) -> str:
        tile = f"m{self.block_m} n{self.block_n} w{self.num_warps} s{self.num_stages}"
        roles = " specialize" if self.specialize else ""
        sides = (("box_m", self.box_m), ("box_n", self.box_n))
        boxes = "".join(f" {name}{'x'.join(map(str, box))}" for name, box in sides if box)
        return f"{tile} {self.precision} {self.lookups} {self.loops} {self.loads}{roles}{boxes}"

    @classmethod
    def parse(cls, text: str) -> TritonConfig:
        """The config that `str` gives this text of. Raises `InputError` for any other text."""
        found = _TEXT.fullmatch(text)
        if found is None:
            raise InputError(f"config: got {text!r}; allowed: {FORM}")
        m, n, warps, stages, precision, lookups, loops, loads, roles, *boxes = found.groups()
        box_m, box_n = (tuple(map(int, box.split("x"))) if box else () for box in boxes)
        numbers = int(m), int(n), int(warps), int(stages)
        return cls(*numbers, precision, lookups, loops, loads, roles is not None, box_m, box_n)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class GradientConfig:
    """The free choices of a backward: those of the kernel that loops over keys, and of the one that loops over queries.

    Both read the same modules, so `precision` and `lookups` are those of the first.
    """

    queries: TritonConfig
    keys: TritonConfig

    def of(self, kernel: str) -> TritonConfig:
        """That of a kernel by its name."""
        return self.keys if kernel == "keys" else self.queries

    def __str__(self) -> str:
        return f"queries {self.queries}; keys {self.keys}"

    @classmethod
    def parse(cls, text: str) -> GradientConfig:
        """The config that `str` gives this text of. Raises `InputError` for any other text."""
        queries, separator, keys = text.partition("; ")
        if not separator or not queries.startswith("queries ") or not keys.startswith("keys "):
            raise InputError(f"config: got {text!r}; allowed: queries CONFIG; keys CONFIG, each {FORM}")
        parts = queries.removeprefix("queries "), keys.removeprefix("keys ")
        return cls(*(TritonConfig.parse(part) for part in parts))


def tiles_of_queries(config: TritonConfig, plan: Plan, n_q: int) -> int:
    """How many tiles the queries of a head make."""
    space = plan.spec.space
    if config.box_m and isinstance(space, Grid):
        return prod(Boxes(space.dims, config.box_m).counts)
    return -(-n_q // config.block_m)


def key_boxes(plan: Plan, config: TritonConfig) -> Boxes | None:
    """The boxes that key tiles are."""
    space = plan.spec.space
    return Boxes(space.dims, config.box_n) if config.box_n and isinstance(space, Grid) else None


def room(width: int) -> int:
    """The channels of a tile that holds vectors of this width: a power of two, and what a matrix product needs."""
    return max(16, 1 << (width - 1).bit_length())


def default(plan: Plan, major: int = 9) -> TritonConfig:
    """The first guess for devices of a compute capability: what the static lint accepts there."""
    return in_boxes(_within_blocks(_default(plan, major), plan), plan)


def in_boxes(config: TritonConfig, plan: Plan, by_keys: bool = False) -> TritonConfig:
    """The config with tiles that are boxes, where keys on a grid are restricted axis by axis, and `by_keys` so are the
    queries that a key meets."""
    config = replace(config, box_m=(), box_n=())
    space, axes = plan.spec.space, box_axes(plan, max(config.shape))
    if not axes or not isinstance(space, Grid):
        return config
    if by_keys:
        turned = [turned_ranges(branch.keysets[0].mask, space) for branch in plan.branches]
        axes = [ranges.axes for ranges in turned if ranges is not None and ranges.axes]
        if len(axes) < len(turned):
            return config
    box_m, box_n = (best_shape(axes, space.dims, volume) for volume in config.shape)
    return replace(config, box_m=box_m, box_n=box_n)


def _within_blocks(config: TritonConfig, plan: Plan) -> TritonConfig:
    """Tiles that lie in the blocks of masks, where these are made of blocks: then none is visible in part."""
    blocks = common_blocks(plan.table_masks())
    if blocks is None:
        return config
    # The powers of two in both sizes.
    rows, keys = (max(16, size & -size) for size in (blocks.q, blocks.k))
    return replace(config, block_m=min(config.block_m, rows), block_n=min(config.block_n, keys))


def _default(plan: Plan, major: int) -> TritonConfig:
    # What a table says has to be there before the keys that it speaks of.
    stages = 3 if _reads_tables(plan) else 2
    widest = _widest(plan)
    if plan.problem.dtype == "fp32":
        if widest > 64:
            return TritonConfig(16, 32, 4, stages, "tf32x3")
        return TritonConfig(64 if major >= 9 else 32, 32, 8, stages, "tf32x3")
    scans = any(branch.scan for branch in plan.branches)
    if widest > 128 or scans:
        # On sm_90 products of more keys wait for what a scan does to the accumulator.
        return TritonConfig(64, 16 if scans and major == 9 and 64 < widest <= 128 else 32, 4, stages, "tf32x3")
    if major == 9:
        return TritonConfig(128, 64, 8, stages, "tf32x3")
    # Elsewhere products take more of the registers.
    several = major < 9 and widest > 64 and _visits_several(plan)
    if _reads_tables(plan) or _visits_boxes(plan) or several or any(branch.passes for branch in plan.branches):
        return TritonConfig(64, 32, 8, stages, "tf32x3")
    return TritonConfig(128, 32 if major >= 10 or widest > 64 else 64, 8, stages, "tf32x3")


def default_backward(plan: Plan, major: int = 9) -> GradientConfig:
    """The same for a backward."""
    found = _default_backward(plan, major)
    queries, keys = (_within_blocks(config, plan) for config in (found.queries, found.keys))
    return GradientConfig(in_boxes(queries, plan), in_boxes(keys, plan, by_keys=True))


def _default_backward(plan: Plan, major: int) -> GradientConfig:
    stages = 3 if _reads_tables(plan) else 2
    widest, scans = _widest(plan), any(branch.scan for branch in plan.branches)
    if plan.problem.dtype == "fp32" and widest > 64:
        tile = TritonConfig(32, 16, 8, stages, "tf32x3")
        return GradientConfig(tile, replace(tile, block_m=16, loops="one"))
    if plan.problem.dtype == "fp32" or widest > 128 or scans:
        tile = TritonConfig(32 if scans else 64, 32, 4 if scans else 8, stages, "tf32x3")
        return GradientConfig(tile, replace(tile, block_m=16 if widest > 64 else 32, loops="one"))
    # A key tile holds two accumulators, and every number of a query takes a register for each of its columns; Triton
    # 3.6 takes more of them than 3.7.
    boxes = _visits_boxes(plan)
    busy = any(branch.weight is not None or branch.passes for branch in plan.branches) or boxes
    rows = 32 if major == 9 and widest <= 64 and not busy else 16
    columns = 128 if widest <= 64 or (major == 9 and not boxes) else 64
    several, pairs = _visits_several(plan), _reads(plan, IndexClass.FULL_PAIR)
    if (several and widest > 64) or (pairs and (several or boxes or widest > 64)):
        # The address of a number of a pair is as large as two of its scores.
        rows, columns = 16, 32 if several and major != 9 and widest > 64 else 64
    if (major != 9 and len(plan.branches) > 1) or (major >= 10 and widest > 64 and boxes):
        columns = 32
    elif boxes and (_is_volume(plan) or (major != 9 and _reads(plan, IndexClass.PER_QUERY))):
        columns = min(columns, 64 if widest <= 64 else 32)
    long = any(branch.passes for branch in plan.branches) and (_reads_tables(plan) or (major != 9 and widest > 64))
    long |= (major >= 10 and widest > 64) or (pairs and (major != 9 or widest > 64))
    keys = 16 if major >= 10 and pairs and several else 32 if long else 64
    queries = TritonConfig(128 if major == 9 else 64, keys, 8, stages, "tf32x3")
    # Loads ahead of several ranges or of boxes take registers that other devices than those of sm_90 do not have.
    ahead = 1 if (several and (major < 9 or (major != 9 and widest > 64))) or (boxes and major < 9) else stages
    return GradientConfig(queries, TritonConfig(rows, columns, 8, ahead, "tf32x3", loops="one"))


def _reads_tables(plan: Plan) -> bool:
    return any(keyset.ranges is None for branch in plan.branches for keyset in branch.keysets)


def _visits_boxes(plan: Plan) -> bool:
    return any(keyset.ranges and keyset.ranges.axes for branch in plan.branches for keyset in branch.keysets)


def _is_volume(plan: Plan) -> bool:
    space = plan.spec.space
    return isinstance(space, Grid) and len(space.dims) > 2


def _visits_several(plan: Plan) -> bool:
    return any(k.ranges and len(k.ranges.outer) > 1 for branch in plan.branches for k in branch.keysets)


def _reads(plan: Plan, least: IndexClass) -> bool:
    """Whether scores read tensors by indices of this class or a harder one."""
    found = (a.overall for branch in plan.branches for keyset in branch.keysets for a in accesses(keyset.core))
    return any(overall >= least for overall in found)


def _widest(plan: Plan) -> int:
    """Channels of the widest tile."""
    return max(room(w) for b in plan.branches for w in (b.width, *(d.width for k in b.keysets for d in k.dots)))
