"""The free choices of the CPU kernel: tile sizes, by instruction set and element type."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from attngen.codegen.analysis.blocks import common_blocks
from attngen.codegen.analysis.boxes import best_shape
from attngen.codegen.boxes import Boxes
from attngen.codegen.plan import Plan
from attngen.codegen.tiling import box_axes
from attngen.errors import InputError
from attngen.ir.expr import const
from attngen.ir.nodes import Grid

FORM = "ISA q48 k192 g16 qk6x4 pv6x4, and for a grid box4x8"
_TEXT = re.compile(r"(\w+) q(\d+) k(\d+) g(\d+) qk(\d+)x(\d+) pv(\d+)x(\d+)(?: box(\d+(?:x\d+)*))?")


@dataclass(frozen=True, slots=True)
class CpuConfig:
    """Rows of a query tile, keys of a key tile, query tiles that share one packed key tile, and the register tiles:
    rows x vectors of the score product and of the value product. `box`: the sides of a box of a grid, which is
    a query tile; without them a query tile is a run of tokens."""

    isa: str
    query_tile: int
    key_tile: int
    group: int
    score_rows: int
    score_vectors: int
    value_rows: int
    value_vectors: int
    box: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and keys of a tile."""
        return self.query_tile, self.key_tile

    @property
    def tile(self) -> tuple[int, int]:
        """Rows of a query tile, and how many of them a task takes at most."""
        return self.query_tile, self.group

    def __str__(self) -> str:
        box = f" box{'x'.join(map(str, self.box))}" if self.box else ""
        return (
            f"{self.isa} q{self.query_tile} k{self.key_tile} g{self.group} "
            f"qk{self.score_rows}x{self.score_vectors} pv{self.value_rows}x{self.value_vectors}{box}"
        )

    @classmethod
    def parse(cls, text: str) -> CpuConfig:
        """The config that `str` gives this text of. Raises `InputError` for any other text."""
        found = _TEXT.fullmatch(text)
        if found is None:
            raise InputError(f"config: got {text!r}; allowed: {FORM}")
        isa, *numbers, box = found.groups()
        q, k, group, *registers = map(int, numbers)
        sides = tuple(map(int, box.split("x"))) if box else ()
        return cls(isa, q, k, group, registers[0], registers[1], registers[2], registers[3], sides)


Reach = Literal["all", "prefix", "some"]
"""Which keys a row may see: all, the first ones (a causal mask, lengths), or any (a window, documents)."""

Numbers = tuple[int, int, int, int, int, int, int]

AVX512: dict[Reach, Numbers] = {
    "all": (48, 192, 16, 6, 4, 6, 4),
    "prefix": (48, 192, 16, 8, 3, 6, 4),
    "some": (32, 256, 24, 8, 2, 8, 2),
}
"""Small tiles waste less at the borders of a window. Raced on a Zen 5 with D 64 and 128."""

SEGMENT = 32
"""Keys between possible ends of a table's segment: fine enough for short documents, coarse enough to build fast."""

BLOCK_ROWS, BLOCK_KEYS = 32, 64
"""Tiles for masks that are made of blocks: rows, and about how many keys."""
ROWS_OF_BLOCKS = {"avx512_bf16": 8, "avx512": 8, "avx2": 4, "portable": 4}
"""Rows of a register tile that divide those."""

BOX, KEYS_OF_BOXES = 32, 256
"""Tokens of a box, and about how many keys of boxes are packed together."""

GROUP_NUMBERS = 200_000
"""Numbers of 4 bytes: most of a second-level cache of 1 MiB."""

OTHERS: dict[str, CpuConfig] = {
    "avx2": CpuConfig("avx2", 24, 192, 16, 6, 2, 6, 2),
    "portable": CpuConfig("portable", 48, 64, 8, 4, 2, 4, 2),
}


BACKWARD_AVX512: dict[Reach, Numbers] = {
    "all": (64, 128, 6, 8, 2, 8, 2),
    "prefix": (64, 128, 6, 8, 2, 8, 2),
    "some": (32, 128, 8, 8, 2, 8, 2),
}

BACKWARD_OTHERS: dict[str, CpuConfig] = {
    "avx2": CpuConfig("avx2", 96, 96, 3, 6, 2, 6, 2),
    "portable": CpuConfig("portable", 48, 64, 4, 4, 2, 4, 2),
}
"""The value tile is that of the three sums."""


def default(isa: str, plan: Plan) -> CpuConfig:
    """The first guess; float64 runs on portable vectors."""
    if plan.problem.dtype == "fp64":
        return in_boxes(OTHERS["portable"], plan)
    config = within_blocks(OTHERS[isa] if isa in OTHERS else CpuConfig(isa, *AVX512[reach(plan)]), plan)
    config = in_boxes(config, plan)
    if isa in OTHERS:
        return config
    # Queries and accumulators of a group stay in the second-level cache, beside a block of keys and values.
    widest = max(branch.width + sum(dot.width for dot in branch.keysets[0].dots) for branch in plan.branches)
    return replace(config, group=max(1, min(config.group, GROUP_NUMBERS // (config.query_tile * widest))))


def default_backward(isa: str, plan: Plan) -> CpuConfig:
    """The first guess for a backward."""
    if plan.problem.dtype == "fp64":
        return in_boxes(BACKWARD_OTHERS["portable"], plan)
    config = BACKWARD_OTHERS[isa] if isa in BACKWARD_OTHERS else CpuConfig(isa, *BACKWARD_AVX512[reach(plan)])
    return in_boxes(within_blocks(config, plan), plan)


def in_boxes(config: CpuConfig, plan: Plan) -> CpuConfig:
    """The config with query tiles that are boxes, where keys on a grid are restricted axis by axis."""
    space, axes = plan.spec.space, box_axes(plan, BOX)
    if not axes or not isinstance(space, Grid):
        return config
    sides = best_shape(axes, space.dims, BOX)
    in_row = Boxes(space.dims, sides).counts[-1]
    # Blocks of keys that do not reach into the next row of boxes.
    most = max(1, KEYS_OF_BOXES // BOX)
    boxes = max(n for n in range(1, most + 1) if in_row % n == 0)
    high = ROWS_OF_BLOCKS[config.isa]
    return replace(
        config,
        box=sides,
        query_tile=BOX,
        key_tile=BOX * (boxes if 2 * boxes >= min(most, in_row) else most),
        group=max(1, config.group * config.query_tile // BOX),
        score_rows=high,
        value_rows=high,
    )


def within_blocks(config: CpuConfig, plan: Plan) -> CpuConfig:
    """The config with tiles that lie in the blocks of the masks, where these are made of blocks: then no tile is
    visible in part."""
    blocks = common_blocks(plan.table_masks())
    if blocks is None or blocks.q % BLOCK_ROWS or blocks.k % SEGMENT:
        return config
    key_tile = blocks.k if blocks.k >= BLOCK_KEYS else BLOCK_KEYS // blocks.k * blocks.k
    high = ROWS_OF_BLOCKS[config.isa]
    group = max(1, config.group * config.query_tile // BLOCK_ROWS)
    tile = replace(config, query_tile=BLOCK_ROWS, key_tile=min(key_tile, config.key_tile), group=group)
    return replace(tile, score_rows=high, value_rows=high)


def reach(plan: Plan) -> Reach:
    """The widest class that holds for every key set."""
    keysets = [keyset for branch in plan.branches for keyset in branch.keysets if keyset.masked]
    if not keysets:
        return "all"
    first = all(k.ranges is not None and all(r.lo == const(0) for r in k.ranges.outer) for k in keysets)
    return "prefix" if first else "some"
