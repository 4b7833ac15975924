"""The configs that are tried for a plan: around the backend's own, what a warp group and a tile allow."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

from attngen.codegen.backend import Backend
from attngen.codegen.backends.triton.config import GradientConfig, TritonConfig, in_boxes
from attngen.codegen.lower.lowered import lowered
from attngen.codegen.plan import Plan

QUERIES_AND_WARPS = ((64, 4), (64, 8), (128, 8))
"""128 queries and 4 warps would leave no registers beside the sums of 128 channels."""
KEYS = (32, 64, 128)
STAGES = (2, 3, 4)
GRADIENT_TILES = ((64, 64, 4), (64, 64, 8), (64, 32, 4), (64, 32, 8), (128, 32, 8), (128, 64, 8), (128, 16, 8))
"""Rows of the sums, rows of what is passed over, warps."""
STAGES_OVER_KEYS, STAGES_OVER_QUERIES = (2, 3), (1, 2)
"""The kernel that loops over queries keeps twice the sums, and more of what it passes over."""


def forward_candidates(backend: Backend, plan: Plan, dry: bool) -> list[TritonConfig]:
    """The backend's own first, then every other combination of the choices, each once."""
    own: TritonConfig = backend.configs(plan)[0]
    if dry:
        return [own, replace(own, num_warps=4)]
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
    return list(dict.fromkeys([own, *(in_boxes(config, target) for config in around)]))


def _without_boxes(config: TritonConfig) -> TritonConfig:
    """The config whose tiles may change their sizes: the shape of a box follows from them."""
    return replace(config, box_m=(), box_n=())


def backward_candidates(backend: Backend, plan: Plan, dry: bool) -> list[GradientConfig]:
    """The backend's own first; then one of its two kernels as it is and every choice for the other."""
    own, queries, keys = _gradient_choices(backend, plan)
    if dry:
        return [own]
    around = [replace(own, queries=each) for each in queries] + [replace(own, keys=each) for each in keys]
    return list(dict.fromkeys([own, *around]))


def every_backward(backend: Backend, plan: Plan) -> list[GradientConfig]:
    """Any choice for the one kernel with any for the other."""
    own, queries, keys = _gradient_choices(backend, plan)
    pairs = product([own.queries, *queries], [own.keys, *keys])
    return list(dict.fromkeys([own, *(GradientConfig(*pair) for pair in pairs)]))


def joined(one: GradientConfig, other: GradientConfig) -> GradientConfig:
    """The first kernel of one with the second of the other."""
    return GradientConfig(one.queries, other.keys)


def _gradient_choices(backend: Backend, plan: Plan) -> tuple[GradientConfig, list[TritonConfig], list[TritonConfig]]:
    own: Any = backend.configs_backward(plan)[0]
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
    if any(branch.scan for branch in plan.branches):
        # Its kernels hand numbers over for tiles of keys, which have to be the same.
        size = own.queries.block_n
        queries, keys = ([c for c in each if c.block_n == size] for each in (queries, keys))
    return own, queries, keys
