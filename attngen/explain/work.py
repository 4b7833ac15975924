"""FLOPs, bytes and memory of a call."""

from __future__ import annotations

from typing import Any

from attngen.codegen.costs import ELEMENT, pair_flops
from attngen.explain.explanation import KeySetFacts, Work
from attngen.explain.facts import Setting


def work(setting: Setting, facts: tuple[KeySetFacts, ...], config: Any) -> Work:
    """The work of the call that the facts describe."""
    plan = setting.plan
    keysets = [(branch, keyset, j) for branch in plan.branches for j, keyset in enumerate(branch.keysets)]
    least = most = visited = 0.0
    n_b, n_h, n_q, _ = setting.extents
    for (branch, keyset, j), fact in zip(keysets, facts, strict=True):
        flops = pair_flops(branch, keyset)
        all_pairs = n_b * n_h * n_q * setting.keys_of(keyset, j)
        least, most = least + flops * fact.pairs[0], most + flops * fact.pairs[1]
        visited += flops * all_pairs * (1.0 if fact.tiles is None else fact.tiles.most_visible)
    return Work((least, most), visited, moved(setting), thread_memory(setting, config))


def moved(setting: Setting) -> int:
    """Bytes: every operand read once, and the result written once."""
    plan, (n_b, n_h, n_q, _) = setting.plan, setting.extents
    tensors = [value for value in setting.operands.values() if hasattr(value, "element_size")]
    read = sum(int(t.numel() * t.element_size()) for t in tensors)
    return read + n_b * n_h * n_q * plan.width * ELEMENT[plan.problem.dtype]


def thread_memory(setting: Setting, config: Any) -> int | None:
    """Bytes of tiles that a thread holds, about: scores, packed queries, keys and values, accumulators."""
    if not hasattr(config, "group"):
        return None
    problem = setting.plan.problem
    real = max(4, ELEMENT[problem.dtype])
    element = 2 if problem.dtype == "bf16" else real
    rows, keys, grouped = config.query_tile, config.key_tile, config.group * config.query_tile
    largest = 0
    for branch in setting.plan.branches:
        widths = max(sum(dot.width for dot in keyset.dots) for keyset in branch.keysets)
        dots = max(len(keyset.dots) for keyset in branch.keysets)
        sums = 2 if branch.needs_vsum else 1
        tiles = dots * rows * keys * real + (keys + grouped) * widths * element
        largest = max(largest, tiles + keys * branch.width * element + sums * grouped * branch.width * real)
    return largest
