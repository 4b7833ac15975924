"""The kernels that the lint looks at: every template with every class of mask and of score, for every architecture.

A spec is named by what is not everyday about it: "causal", "window relative", "entmax boxes pair".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from typing import Any

import torch

import attngen
from attngen import masks, normalizers, scores, weights
from attngen.codegen.backends.triton.abi import Parameters, backward_parameters, parameters
from attngen.codegen.backends.triton.config import GradientConfig, TritonConfig, default, default_backward
from attngen.codegen.backends.triton.emit import emit
from attngen.codegen.backends.triton.emit_backward import emit_backward
from attngen.codegen.lower.lowered import lowered
from attngen.codegen.plan import Plan
from tests.codegen.plans import plan_of

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
KERNELS = ("forward", "queries", "keys")
WIDTHS = (64, 128)

IDS = torch.arange(9)
KINDS = torch.arange(9)
LEARNED = torch.ones(4)
PAIRS = torch.ones(9, 9)
ELEMENTS: dict[str, tuple[str, int]] = {"ids": ("int64", 1), "kinds": ("int64", 1)}


MASKS: dict[str, Callable[[], Any]] = {
    # None, a prefix of the keys, an interval, several, a table, boxes of a grid.
    "full": lambda: None,
    "causal": masks.causal,
    "window": lambda: masks.sliding_window(256),
    "sinks": lambda: (masks.sink(4) | masks.sliding_window(256)) & masks.causal(),
    "documents": lambda: masks.document(IDS) & masks.causal(),
    "boxes": lambda: masks.neighborhood((32, 32), (7, 7)),
}


def _scalar(score: Any) -> Any:
    return score + LEARNED[0]


def _query(score: Any, h: Any, q: Any) -> Any:
    return score + PAIRS[h, q]


def _key(score: Any, h: Any, kv: Any) -> Any:
    return score + PAIRS[h, kv]


def _bucketed(score: Any, h: Any, q: Any, kv: Any) -> Any:
    return score + PAIRS[h, torch.clamp(torch.abs(q - kv), max=7)]


def _pair(score: Any, q: Any, kv: Any) -> Any:
    return score + PAIRS[q, kv]


def _irregular(score: Any, q: Any, kv: Any) -> Any:
    return score + PAIRS[KINDS[q], KINDS[kv]]


SCORES: dict[str, Callable[[], Any]] = {
    # By how an indexed tensor varies over a tile: the classes of attngen/codegen/analysis/index_class.py, and none.
    "plain": lambda: None,
    "scalar": lambda: _scalar,
    "head": lambda: scores.alibi(LEARNED),
    "query": lambda: _query,
    "key": lambda: _key,
    "relative": lambda: scores.relative_bias(PAIRS),
    "bucketed": lambda: _bucketed,
    "pair": lambda: _pair,
    "irregular": lambda: _irregular,
}
EVERYDAY = ("plain", "head", "pair")
WAYS: dict[str, Callable[[], dict[str, Any]]] = {
    # By the loops that are written: with and without an anchor, weighted, and with passes and scans of other kinds.
    "softmax": dict,
    "sigmoid": lambda: {"normalizer": normalizers.sigmoid()},
    "dropout": lambda: {"weight": weights.dropout(0.1, seed=3)},
    "entmax": lambda: {"normalizer": normalizers.entmax(1.5)},
    "lssar": lambda: {"normalizer": normalizers.lssar(3, 0.5)},
    "stick_breaking": lambda: {"normalizer": normalizers.stick_breaking()},
}


ALONE: dict[str, Callable[[], attngen.Spec]] = {
    "dual_triangle": attngen.mechanisms.dual_triangle,
    "volume": partial(attngen.mechanisms.neighborhood, (16, 24, 32), (6, 8, 8)),
}


def _specs() -> Iterator[tuple[str, Callable[[], attngen.Spec]]]:
    for i, way in enumerate(WAYS):
        for (j, mask), (k, score) in product(enumerate(MASKS), enumerate(SCORES)):
            # The loops of other ways have the tiles of scores in them that softmax has: some of each, not every pair.
            if way == "softmax" or (j == (k + i) % len(MASKS) and score in EVERYDAY):
                parts = [part for part in (way, mask, score) if part not in ("softmax", "full", "plain")]
                yield " ".join(parts) or "full", partial(_spec, way, mask, score)
    yield from ALONE.items()


def _spec(way: str, mask: str, score: str) -> attngen.Spec:
    space = attngen.Grid((32, 32)) if mask == "boxes" else None
    return attngen.Spec(mask=MASKS[mask](), score=SCORES[score](), space=space, **WAYS[way]())


SPECS = dict(_specs())


@dataclass(frozen=True, slots=True)
class Source:
    """The source of a kernel, and all that decides its machine code but the version of Triton."""

    text: str
    entry: str
    arch: str
    config: TritonConfig
    given: Parameters


@dataclass(frozen=True, slots=True)
class Cell:
    """A kernel of the matrix. Heads of bf16 with `d` channels, and tensors that are aligned."""

    kernel: str
    spec: str
    arch: str
    d: int

    def source(self) -> Source:
        """With the config that is shipped."""
        return source(self.spec, self.arch, self.d, self.kernel)


def cells() -> list[Cell]:
    """All of the matrix. A mask without a score is built for every architecture, and any other spec for one of them;
    the widths take turns."""
    found = []
    for i, spec in enumerate(SPECS):
        for j, arch in enumerate(ARCHITECTURES):
            if spec in ("full", *MASKS) or i % len(ARCHITECTURES) == j:
                d = WIDTHS[(i // 3 + j) % 2]
                found += [Cell(kernel, spec, arch, d) for kernel in KERNELS]
    return found


def source(
    spec: str, arch: str, d: int, kernel: str, dtype: str = "bf16", config: TritonConfig | None = None
) -> Source:
    """What is compiled; `config` is that of a forward, the shipped one if None."""
    plan, major = _plan(spec, d, dtype), int(arch[3:]) // 10
    if kernel == "forward":
        own = config or default(plan, major)
        return Source(emit(plan, own).text, kernel, arch, own, parameters(plan))
    wanted = frozenset(operand.name for operand in plan.problem.operands[3:] if operand.dtype == "float32")
    both = default_backward(plan, major)
    given = backward_parameters(plan, wanted)
    return Source(_backward(plan, both, wanted), kernel, arch, both.of(kernel), given)


@cache
def _plan(spec: str, d: int, dtype: str) -> Plan:
    return lowered(plan_of(SPECS[spec](), dtype=dtype, d=d, dv=d, **ELEMENTS))


@cache
def _backward(plan: Plan, config: GradientConfig, wanted: frozenset[str]) -> str:
    return emit_backward(plan, config, wanted).text
