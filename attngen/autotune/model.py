"""How long a config should take: rooflines that know which pairs of *this* mask its tiles visit, what a score of *this*
spec costs, and how well its tasks fill the machine. No kernel is built or run.

Predictions rank the configs of one call; their unit is seconds at rates that nobody measured here.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from statistics import StatisticsError, correlation
from typing import TYPE_CHECKING, Any, NamedTuple

from attngen.autotune.spaces.cpu import LANES, memory, second_level
from attngen.autotune.visits import Seen
from attngen.codegen.backends.cpu.config import CpuConfig
from attngen.codegen.backends.triton.config import GradientConfig, TritonConfig, tiles_of_queries
from attngen.codegen.costs import ELEMENT, pair_costs
from attngen.codegen.devices import Device, predict
from attngen.codegen.lower.lowered import lowered

if TYPE_CHECKING:
    from attngen.autotune.workload import Workload
    from attngen.codegen.plan import BranchPlan, KeySetPlan

CLOCK = 3e9
"""Cycles of a second: a guess, which ranks nothing."""
EXP = 10.0
"""Instructions of an exponential on a CPU, which has none."""
MASK = 6.0
"""What a mask adds to a pair: its comparisons, and a select."""
ROW = 24.0
"""Cycles of a row in each tile: the maximum and the mass across lanes, the factor of the sums."""
STEP = 400.0
"""Cycles of a tile that do not depend on its size."""
PACK = 3.0
"""Cycles of a vector of a key or a value that is packed: read, turned, written, and often missed in the cache."""
BEYOND = 1.35
"""How much slower products are whose sums come from the third-level cache."""
PRODUCTS = {"forward": (1, 1), "backward": (3, 2)}
"""How many run over the channels of keys and of values."""

STEP_ON_GPU = 1e-7
"""Seconds in which a block gets its next tile of keys."""
START = 3e-6
"""Seconds of a launch."""


class Ranked(NamedTuple):
    """A config and its predicted seconds."""

    config: Any
    seconds: float


def rank(work: Workload, configs: Sequence[Any]) -> list[Ranked]:
    """The configs, the one that should be fastest first. On a GPU that the table of devices does not have they are all
    the same."""
    seen = Seen(work)
    found = [Ranked(config, predicted(work, config, seen)) for config in configs]
    return sorted(found, key=lambda each: each.seconds)


def predicted(work: Workload, config: Any, seen: Seen) -> float:
    """Seconds of a config."""
    device = work.gpu
    match config:
        case CpuConfig():
            return _on_cpu(work, config, seen)
        case TritonConfig() if device is not None:
            return _on_gpu(work, config, seen, device, PRODUCTS["forward"])
        case GradientConfig(queries=queries, keys=keys) if device is not None:
            # Both kernels compute the scores.
            return _on_gpu(work, queries, seen, device, (2, 1)) + _on_gpu(work, keys, seen, device, (2, 2))
    return 0.0


def _on_cpu(work: Workload, config: CpuConfig, seen: Seen) -> float:
    import torch

    target = lowered(work.plan)
    lanes = LANES[config.isa] // (2 if work.problem.dtype == "fp64" else 1)
    pairwise = 2 if config.isa == "avx512_bf16" and work.problem.dtype == "bf16" else 1
    over_d, over_dv = PRODUCTS[work.direction]
    score = over_d / _efficiency(config.query_tile, config.score_rows, config.score_vectors)
    value = over_dv / _efficiency(config.query_tile, config.value_rows, config.value_vectors)
    beyond = BEYOND if memory(target, config, work.backward) > second_level() else 1.0
    n_b, n_h, n_q, _ = work.sizes
    threads = torch.get_num_threads()
    rows, most = config.query_tile, ceil(n_q / config.query_tile)
    group = max(1, min(config.group, ceil(n_b * n_h * most / (4 * threads))))
    cycles = 0.0
    for branch, visited in zip(target.branches, seen.of(config.shape, config.box), strict=False):
        for keyset, visits in zip(branch.keysets, visited, strict=False):
            d, dv = sum(dot.width for dot in keyset.dots) * (2 if branch.passes else 1), branch.width
            exps, fmas = pair_costs(branch, keyset)
            # Sums of a value product are read and written once for each tile of keys, those of a score written once.
            scores = d * score / pairwise + 2.0
            values = dv * value / pairwise * (1 + 4.0 * pairwise / config.key_tile)
            pair = (scores + values) * beyond + over_d * (EXP * exps + fmas)
            cycles += (pair * visits.pairs + MASK * visits.partial) / (2 * lanes)
            tiles = visits.pairs / (rows * config.key_tile)
            cycles += tiles * (STEP + ROW * rows)
            cycles += PACK * (d + dv) * visits.pairs / (rows * group * lanes)
    tasks = n_b * n_h * ceil(most / group)
    return cycles / CLOCK / threads * _tail(tasks, threads)


def _efficiency(tile: int, rows: int, vectors: int) -> float:
    """Of a register tile: two multiply-adds and two loads a cycle, four cycles of latency, rows that are left over."""
    products, loads = rows * vectors / 2, (rows + vectors) / 2
    used = tile / (rows * ceil(tile / rows))
    return used * products / max(products, loads, 4.0)


def _tail(tasks: int, workers: int) -> float:
    """What is lost where the last tasks do not occupy every worker; tasks are unequal, so the wait is half of one."""
    if not tasks:
        return 1.0
    waves = ceil(tasks / workers) * workers / tasks
    return waves if tasks <= workers else 1.0 + (waves - 1.0) / 2


def _on_gpu(work: Workload, config: TritonConfig, seen: Seen, device: Device, products: tuple[int, int]) -> float:
    target = lowered(work.plan)
    n_b, n_h, n_q, _ = work.sizes
    blocks = n_b * n_h * tiles_of_queries(config, target, n_q)
    element = ELEMENT[work.problem.dtype]
    moved = _moved(work) / max(1, sum(len(branch.keysets) for branch in target.branches))
    box = config.box_m if config.box_m == config.box_n else ()
    total = 0.0
    for branch, visited in zip(target.branches, seen.of(config.shape, box), strict=False):
        for keyset, visits in zip(branch.keysets, visited, strict=False):
            total += _key_set(branch, keyset, visits.pairs, visits.partial, config, device, products, element, moved)
            steps = visits.pairs / max(1, config.block_m * config.block_n)
            total += STEP_ON_GPU * steps / (device.sms * _resident(config, device, branch, element))
    return START + total * _tail(blocks, device.sms)


def _key_set(
    branch: BranchPlan, keyset: KeySetPlan, pairs: float, partial: float, config: TritonConfig, device: Device,
    products: tuple[int, int], element: int, moved: float,
) -> float:  # fmt: skip
    exps, fmas = pair_costs(branch, keyset)
    d = sum(dot.width for dot in keyset.dots) * (2 if branch.passes else 1)
    share = partial / max(1.0, pairs)
    # Rescaling the sums, once for each tile of keys; without a split every tile takes the mask.
    fmas += branch.width / config.block_n + MASK * (1.0 if config.loops == "one" else share)
    told = predict(device, pairs=pairs, d=d, dv=branch.width, moved=moved, element_bytes=min(4, element), exps=exps,
                   fmas=fmas, products=products)  # fmt: skip
    matrix, other = told.parts["matrix"], max(told.parts["exp"], told.parts["fma"])
    # Scores wait for products unless another block, or warps with a role of their own, are at work meanwhile.
    overlap = 0.8 if config.specialize or config.num_warps == 4 else 0.5
    inside = max(matrix, other) + (1 - overlap) * min(matrix, other)
    return max(inside, told.parts["memory"]) * (1 + 0.1 / config.num_stages)


def _resident(config: TritonConfig, device: Device, branch: BranchPlan, element: int) -> int:
    """Blocks of an SM, by shared memory and registers."""
    shared = element * branch.width * (config.block_m + 2 * config.num_stages * config.block_n)
    registers = config.block_m * (config.block_n + branch.width) + 32 * 64 * config.num_warps
    return max(1, min(device.shared_per_sm // max(1, shared), device.registers // max(1, registers)))


def _moved(work: Workload) -> float:
    """Bytes: every operand read once, and the result written once."""
    tensors = (*work.operands, *work.inputs)
    read = sum(int(t.numel() * t.element_size()) for t in tensors)
    n_b, n_h, n_q, _ = work.sizes
    return float(read + n_b * n_h * n_q * work.plan.width * ELEMENT[work.problem.dtype])


def agreement(predictions: Sequence[float], measurements: Sequence[float]) -> float | None:
    """The rank correlation (Spearman's) of what was predicted and what was measured; None where nothing varies."""
    if len(predictions) < 3:
        return None
    try:
        return correlation(_ranks(predictions), _ranks(measurements))
    except StatisticsError:
        return None


def _ranks(values: Sequence[float]) -> list[float]:
    """The rank of each value; equal ones share the mean of theirs."""
    ordered = sorted(values)
    first = {value: i for i, value in reversed(list(enumerate(ordered)))}
    last = {value: i for i, value in enumerate(ordered)}
    return [(first[value] + last[value]) / 2 for value in values]
