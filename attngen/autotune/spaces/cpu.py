"""The space of a CPU kernel: tiles, groups, register tiles, boxes of a grid."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import prod

from attngen.codegen.analysis.boxes import shapes
from attngen.codegen.backends.cpu.config import GROUP_NUMBERS, SEGMENT, CpuConfig
from attngen.codegen.lower.lowered import lowered
from attngen.codegen.plan import Plan
from attngen.codegen.tiling import box_axes
from attngen.ir.nodes import Grid

QUERIES = (24, 32, 48, 64, 96)
KEYS = (64, 96, 128, 192, 256, 384)
GROUPS = (4, 8, 16, 24, 32)
QUERIES_BACKWARD, KEYS_BACKWARD, GROUPS_BACKWARD = (32, 48, 64, 96), (64, 96, 128, 192), (2, 3, 4, 6, 8)
VOLUMES = (16, 32, 64)
"""Tokens of a box."""

Tile = tuple[int, int]
REGISTER_TILES: dict[str, tuple[Tile, ...]] = {
    "avx512_bf16": ((6, 4), (8, 3), (8, 2), (12, 2)),
    "avx512": ((6, 4), (8, 3), (8, 2), (12, 2)),
    "avx2": ((6, 2), (4, 3), (4, 2)),
    "portable": ((4, 2), (6, 2), (2, 4)),
}
"""Rows x vectors of a register tile: at least eight sums hide the latency of a multiply-add."""
REGISTERS = {"avx512_bf16": 32, "avx512": 32, "avx2": 16, "portable": 16}
LANES = {"avx512_bf16": 16, "avx512": 16, "avx2": 8, "portable": 4}
"""Numbers of 4 bytes in a vector."""


def around(own: CpuConfig, plan: Plan, backward: bool) -> Iterator[CpuConfig]:
    """Every combination of the choices; on a grid whose keys are restricted axis by axis, boxes instead of runs."""
    queries, keys, groups = (QUERIES, KEYS, GROUPS) if not backward else (
        QUERIES_BACKWARD, KEYS_BACKWARD, GROUPS_BACKWARD)  # fmt: skip
    registers = dict.fromkeys(((own.score_rows, own.score_vectors), *REGISTER_TILES[own.isa]))
    if own.box:
        yield from _boxes(own, plan, groups, tuple(registers))
        return
    for q, k, g, (rows, vectors), values in product(
        sorted({own.query_tile, *queries}),
        sorted({own.key_tile, *keys}),
        sorted({own.group, *groups}),
        registers,
        dict.fromkeys(((own.value_rows, own.value_vectors), *REGISTER_TILES[own.isa])),
    ):
        yield replace(own, query_tile=q, key_tile=k, group=g, score_rows=rows, score_vectors=vectors,
                      value_rows=values[0], value_vectors=values[1])  # fmt: skip


def _boxes(own: CpuConfig, plan: Plan, groups: tuple[int, ...], registers: tuple[Tile, ...]) -> Iterator[CpuConfig]:
    space = plan.spec.space
    if not isinstance(space, Grid):
        return
    for volume in VOLUMES:
        if not box_axes(lowered(plan), volume):
            continue
        for sides, count, g, (rows, vectors) in product(shapes(space.dims, volume), (1, 2, 4, 8), groups, registers):
            yield replace(own, box=sides, query_tile=volume, key_tile=volume * count, group=g, score_rows=rows,
                          score_vectors=vectors, value_rows=rows, value_vectors=vectors)  # fmt: skip


def refusal(plan: Plan, config: CpuConfig, backward: bool) -> str | None:
    """Why a config is not tried for a plan: it is illegal, or too large for the caches."""
    reason = illegal(plan, config)
    if reason is not None:
        return reason
    size = memory(lowered(plan), config, backward)
    if size > 2 * second_level():
        return f"a group takes {size >> 10} KiB and the second-level cache has {second_level() >> 10}"
    return None


def illegal(plan: Plan, config: CpuConfig) -> str | None:
    """Why a config cannot be built for a plan: what the skeleton asserts, registers, boxes."""
    double = plan.problem.dtype == "fp64"
    if config.isa not in REGISTERS or (double and config.isa != "portable"):
        return f"{plan.problem.dtype} kernels are not built for {config.isa}"
    if min(config.query_tile, config.key_tile, config.group, config.score_rows, config.score_vectors,
           config.value_rows, config.value_vectors) < 1:  # fmt: skip
        return "every size is at least 1"
    lanes = LANES[config.isa] // (2 if double else 1)
    panel = config.score_vectors * lanes
    if config.key_tile % panel:
        return f"a key tile of {config.key_tile} is no whole number of panels of {panel} keys"
    if config.key_tile % 2 or config.query_tile % 2:
        return "pairs of 16-bit elements lie in one word, so tiles have an even number of rows and keys"
    if config.key_tile > 64 * SEGMENT:
        return f"a key tile has at most {64 * SEGMENT} keys"
    for name, rows, vectors in (
        ("score", config.score_rows, config.score_vectors),
        ("value", config.value_rows, config.value_vectors),
    ):
        needed = rows * vectors + vectors + 1
        if needed > REGISTERS[config.isa]:
            return f"a {name} tile of {rows}x{vectors} takes {needed} registers and there are {REGISTERS[config.isa]}"
    if config.query_tile % 2 ** (config.score_rows.bit_length() - 1) and config.box:
        return f"a box of {config.query_tile} tokens is no whole number of {config.score_rows} rows"
    return _box_refusal(lowered(plan), config) if config.box else None


def _box_refusal(target: Plan, config: CpuConfig) -> str | None:
    space = target.spec.space
    if not isinstance(space, Grid) or len(space.dims) != len(config.box) or not box_axes(target, config.query_tile):
        return "no keys of a grid are restricted axis by axis, so its tiles cannot be boxes"
    if prod(config.box) != config.query_tile:
        return f"a box of {'x'.join(map(str, config.box))} is no tile of {config.query_tile} queries"
    if config.key_tile % config.query_tile:
        return f"a key tile of {config.key_tile} is no whole number of boxes of {config.query_tile} tokens"
    if config.box not in shapes(space.dims, config.query_tile):
        return f"a box of {'x'.join(map(str, config.box))} has a side that is no power of two, or beyond the grid"
    return None


def memory(target: Plan, config: CpuConfig, backward: bool) -> int:
    """Bytes of queries and sums of a group, about; a backward holds twice as many."""
    widest = max(b.width + sum(dot.width for dot in b.keysets[0].dots) for b in target.branches)
    return 4 * config.group * config.query_tile * widest * (2 if backward else 1)


def second_level() -> int:
    """Bytes of the second-level cache, or what the built-in configs assume."""
    try:
        found = os.sysconf("SC_LEVEL2_CACHE_SIZE")
    except (ValueError, OSError):
        found = 0
    return found if found > 0 else 5 * GROUP_NUMBERS
