"""The space of a Triton kernel: tiles, warps, stages, loads, loops, boxes, as far as a device has room for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from attngen.codegen.backends.triton.config import GradientConfig, TritonConfig, in_boxes, room
from attngen.codegen.devices import Device
from attngen.codegen.lower.lowered import lowered
from attngen.codegen.plan import Plan
from attngen.codegen.tiling import box_axes

QUERIES_AND_WARPS = ((64, 4), (64, 8), (128, 8))
"""128 queries and 4 warps would leave no registers beside the sums of 128 channels."""
KEYS = (32, 64, 128)
STAGES = (2, 3, 4)
GRADIENT_TILES = ((64, 64, 4), (64, 64, 8), (64, 32, 4), (64, 32, 8), (128, 32, 8), (128, 64, 8), (128, 16, 8))
"""Rows of the sums, rows of what is passed over, warps."""
STAGES_OVER_KEYS, STAGES_OVER_QUERIES = (2, 3), (1, 2)
"""The kernel that loops over queries keeps twice the sums, and more of what it passes over."""

LEAST = 16
"""Rows and columns of a matrix product."""
REGISTERS = 65536
"""Of a block, 32 bits each, on every architecture that is supported."""
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


def forward_around(own: TritonConfig, plan: Plan) -> Iterator[TritonConfig]:
    """Every combination of the choices."""
    runs = _without_boxes(own)
    around = [
        replace(runs, block_m=m, block_n=n, num_warps=warps, num_stages=stages)
        for (m, warps), n, stages in product(QUERIES_AND_WARPS, KEYS, STAGES)
    ]
    if any(keyset.masked for branch in plan.branches for keyset in branch.keysets):
        around += [replace(config, loops="one") for config in around if config.num_stages == STAGES[0]]
    around += [replace(config, loads="descriptor") for config in around if config.num_stages == STAGES[0]]
    # Warps with roles of their own: what Triton needs for them is known.
    roles = replace(runs, block_m=128, num_warps=4, loops="one", loads="descriptor", specialize=True)
    around += [replace(roles, block_n=n, num_stages=stages) for n, stages in product(KEYS[1:], STAGES[:2])]
    target = lowered(plan)
    return (in_boxes(config, target) for config in around)


def backward_around(own: GradientConfig, plan: Plan) -> Iterator[GradientConfig]:
    """One of the two kernels as it is, and every choice for the other: they do not know of each other."""
    queries, keys = gradient_choices(own, plan)
    yield from (replace(own, queries=each) for each in queries)
    yield from (replace(own, keys=each) for each in keys)


def every_backward(own: GradientConfig, plan: Plan) -> Iterator[GradientConfig]:
    """Any choice for the one kernel with any for the other."""
    queries, keys = gradient_choices(own, plan)
    return (GradientConfig(*pair) for pair in product([own.queries, *queries], [own.keys, *keys]))


def joined(one: GradientConfig, other: GradientConfig) -> GradientConfig:
    """The first kernel of one with the second of the other."""
    return GradientConfig(one.queries, other.keys)


def gradient_choices(own: GradientConfig, plan: Plan) -> tuple[list[TritonConfig], list[TritonConfig]]:
    """The choices for the kernel that loops over keys, and for the one that loops over queries."""
    queries = [
        replace(_without_boxes(own.queries), block_m=m, block_n=n, num_warps=warps, num_stages=stages)
        for (m, n, warps), stages in product(GRADIENT_TILES, STAGES_OVER_KEYS)
    ]
    keys = [
        replace(_without_boxes(own.keys), block_m=n, block_n=m, num_warps=warps, num_stages=stages)
        for (m, n, warps), stages in product(GRADIENT_TILES, STAGES_OVER_QUERIES)
    ]
    queries += [replace(c, loads="descriptor") for c in queries if c.num_stages == STAGES_OVER_KEYS[0]]
    keys += [replace(c, loads="descriptor") for c in keys if c.num_stages == STAGES_OVER_QUERIES[-1]]
    target = lowered(plan)
    queries = [in_boxes(c, target) for c in queries]
    keys = [in_boxes(c, target, by_keys=True) for c in keys]
    if _scans(plan):
        # Its kernels hand numbers over for tiles of keys, which have to be the same.
        size = own.queries.block_n
        queries, keys = ([c for c in each if c.block_n == size] for each in (queries, keys))
    return queries, keys


def _without_boxes(config: TritonConfig) -> TritonConfig:
    """The config whose tiles may change their sizes: the shape of a box follows from them."""
    return replace(config, box_m=(), box_n=())


def _scans(plan: Plan) -> bool:
    return any(branch.scan for branch in plan.branches)


def refusal(plan: Plan, config: TritonConfig | GradientConfig, backward: bool, device: Device | None) -> str | None:
    """Why a config is not for a plan on a device, as far as arithmetic tells; the lint knows the rest."""
    if isinstance(config, GradientConfig) != backward:
        return "a backward has a config for each of its two kernels, and a forward has one"
    if not isinstance(config, GradientConfig):
        return _refusal(plan, config, device, False)
    if _scans(plan) and config.queries.block_n != config.keys.block_n:
        return "the two kernels of a scan hand numbers over for tiles of keys, which have to be the same"
    reasons = (_refusal(plan, one, device, True) for one in (config.queries, config.keys))
    return next((reason for reason in reasons if reason is not None), None)


def _refusal(plan: Plan, config: TritonConfig, device: Device | None, backward: bool) -> str | None:
    for name, size in (("block_m", config.block_m), ("block_n", config.block_n), ("num_warps", config.num_warps)):
        if size < 1 or size & (size - 1):
            return f"{name} of {size} is no power of two"
    if min(config.shape) < LEAST:
        return f"a tile of {config.block_m} x {config.block_n} is below the {LEAST} of a matrix product"
    if config.specialize and (config.num_warps, config.loops, config.loads) != (4, "one", "descriptor"):
        return "warps with roles of their own take four warps, one loop and descriptors"
    if (config.box_m or config.box_n) and not box_axes(lowered(plan), max(config.shape)):
        return "no keys of a grid are restricted axis by axis, so its tiles cannot be boxes"
    sums = config.block_m * config.block_n + config.block_m * _width(plan) * (2 if backward else 1)
    if sums > REGISTERS:
        return f"scores and sums take {sums} registers and a block has {REGISTERS}"
    if device is None:
        return None
    if config.loads == "descriptor" and device.capability < (9, 0):
        return f"{device.name} has no engine for descriptors: they begin with sm_90"
    if config.specialize and device.capability[0] != 9:
        return f"Triton gives warps roles of their own on sm_90, and {device.name} is {device.arch}"
    shared = config.num_stages * config.block_n * _row_bytes(plan)
    if shared > device.shared_per_block:
        there = f"a block on {device.name} has {device.shared_per_block}"
        return f"{config.num_stages} stages take {shared} bytes of shared memory and {there}"
    return None


def _width(plan: Plan) -> int:
    return max(room(branch.width) for branch in lowered(plan).branches)


def _row_bytes(plan: Plan) -> int:
    """Bytes of a key and its value in a tile."""
    element = BYTES.get(plan.problem.dtype, 8)
    rows = [sum(room(d.width) for d in k.dots) + room(b.width) for b in lowered(plan).branches for k in b.keysets]
    return element * max(rows)
