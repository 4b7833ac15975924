"""Block tables for masks that read tensors: built per call from the values at hand, kept while those stay the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attngen.codegen.analysis import Arrays, Sizes, schedule
from attngen.codegen.backend import Call
from attngen.codegen.backends.cpu.abi import Abi
from attngen.codegen.backends.cpu.config import CpuConfig
from attngen.codegen.plan import Plan
from attngen.ir.expr import Expr, loads
from attngen.ir.nodes import Space

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

SEGMENT = 32
"""Keys between possible ends of a segment: fine enough for short documents, coarse enough to build fast."""


@dataclass
class TableBuilder:
    """Builds the table of one key set. What the mask reads is compared by value: identity misses a change in place."""

    mask: Expr
    space: Space
    sizes: Sizes
    query_tile: int
    names: tuple[str, ...]
    positions: tuple[int, ...]
    scalars: tuple[int, ...]
    _kept: tuple[list[Any], tuple[Any, ...]] | None = None

    def build(self, inputs: Sequence[Tensor], scalars: Sequence[float]) -> tuple[Any, ...]:
        """Offsets, begins, ends, full flags and patterns, as contiguous numpy arrays."""
        values: list[Any] = [inputs[i] for i in self.positions] + [scalars[i] for i in self.scalars]
        kept = self._kept  # what was read and what came of it, replaced in one step: other threads may be at it
        if kept is None or not all(_same(a, b) for a, b in zip(values, kept[0], strict=True)):
            read = [v if isinstance(v, int | float) else v.detach().clone() for v in values]
            kept = self._kept = (read, self._arrays(read))
        return kept[1]

    def _arrays(self, read: list[Any]) -> tuple[Any, ...]:
        arrays = {name: np.asarray(_numpy(v)) for name, v in zip(self.names, read, strict=True)}
        found = schedule(self.mask, self.space, self.sizes, (self.query_tile, SEGMENT), Arrays(arrays))
        ends = np.cumsum([0, *(len(t.begin) for t in found.tables)])
        offsets = [t.offsets[:-1] + start for t, start in zip(found.tables, ends, strict=False)]
        return (
            np.concatenate([*offsets, ends[-1:]]).astype(np.int64),
            _joined([t.begin for t in found.tables], np.int32),
            _joined([t.end for t in found.tables], np.int32),
            _joined([t.full for t in found.tables], np.uint8),
            np.ascontiguousarray(found.pattern, np.int32),
        )


def table_builders(plan: Plan, abi: Abi, config: CpuConfig, call: Call) -> list[TableBuilder]:
    """One builder for each table of the argument block."""
    tensors = [name for name, _ in abi.tensors][3:]
    scalars = [*abi.ints, *abi.floats]
    builders = []
    for branch, index in abi.tables:
        keyset = plan.branches[branch].keysets[index]
        names = tuple(dict.fromkeys(load.tensor for load in loads(keyset.mask)))
        read = [n for n in names if n in tensors], [n for n in names if n in scalars]
        keys = call.operands[[name for name, _ in abi.tensors].index(keyset.v.tensor)]
        builders.append(
            TableBuilder(
                mask=keyset.mask,
                space=plan.spec.space,
                sizes=Sizes(
                    n_q=call.n_q, n_k=keys.shape[1 if call.layout == "bnhd" else 2], n_b=call.n_b, n_h=call.n_h
                ),
                query_tile=config.query_tile,
                names=(*read[0], *read[1]),
                positions=tuple(tensors.index(n) for n in read[0]),
                scalars=tuple(scalars.index(n) for n in read[1]),
            )
        )
    return builders


def _joined(parts: Sequence[Any], dtype: Any) -> Any:
    return np.concatenate([*parts, np.zeros(0, dtype)]).astype(dtype)


def _same(value: Any, read: Any) -> bool:
    if isinstance(value, int | float):
        return bool(value == read)
    import torch

    return torch.equal(value, read)


def _numpy(value: Any) -> Any:
    if isinstance(value, int | float):
        return value
    return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
