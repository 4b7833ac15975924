"""Block tables for masks that read tensors: built per call from the values at hand, kept while those stay the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from attngen.codegen.analysis import Arrays, Sizes, schedule, turned, turned_ranges
from attngen.codegen.backend import Call
from attngen.codegen.calls.arguments import Arguments
from attngen.codegen.kept import Kept
from attngen.codegen.pages import capacity, mask_of_batches
from attngen.codegen.plan import KeySetPlan, Plan
from attngen.ir import nodes
from attngen.ir.expr import loads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

Parts = tuple[Any, Any, Any, Any, Any]
Tile = tuple[int, int]


class TableBuilder:
    """Builds the table of one key set: which keys every query tile sees, or `by_keys` which queries see a key tile."""

    def __init__(
        self,
        plan: Plan,
        arguments: Arguments,
        keyset: KeySetPlan,
        main: bool,
        call: Call,
        tile: Tile,
        by_keys: bool = False,
    ) -> None:
        operands = [name for name, _ in arguments.tensors]
        tensors, scalars = operands[3:], (*arguments.ints, *arguments.floats)
        space = plan.spec.space
        n_k = call.operands[operands.index(keyset.v.tensor)].shape[1 if call.layout == "bnhd" else 2]
        self.mask, self.within = keyset.mask, keyset.within
        self.space = keyset.space
        if isinstance(space, nodes.Paged) and main:
            self.mask = mask_of_batches(keyset.mask, space)
            n_k = capacity(space, tuple(call.operands[operands.index(space.table)].shape))
        self.sizes = Sizes(call.n_q, n_k, call.n_b, call.n_h)
        self.tile = tile
        if by_keys:
            self.mask, self.within = turned(self.mask), turned_ranges(self.mask, self.space)
            self.sizes = Sizes(n_k, call.n_q, call.n_b, call.n_h)
        ends = [end for pair in self.within.outer for end in pair] if self.within else []
        names = dict.fromkeys(load.tensor for load in loads(self.mask, *ends))
        self.names = ([n for n in names if n in tensors], [n for n in names if n in scalars])
        given = len(tensors) if plan.written is None else len(plan.written.problem.operands) - 3
        places = [tensors.index(n) for n in self.names[0]]
        # What lowering added is made anew where it changes.
        added = frozenset(place for place in places if place >= given)
        self.build: Kept[Parts] = Kept(self._made, places, [scalars.index(n) for n in self.names[1]], added)
        """Offsets, begins, ends, full flags and patterns for the inputs and scalars of a call."""

    def _made(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> Parts:
        arrays = dict(zip(self.names[0], map(_numpy, tensors), strict=True))
        data = Arrays(arrays | dict(zip(self.names[1], map(np.asarray, numbers), strict=True)))
        found = schedule(self.mask, self.space, self.sizes, self.tile, data, within=self.within)
        ends = np.cumsum([0, *(len(t.begin) for t in found.tables)])
        offsets = [t.offsets[:-1] + start for t, start in zip(found.tables, ends, strict=False)]
        return (
            np.concatenate([*offsets, ends[-1:]]).astype(np.int64),
            _joined([t.begin for t in found.tables], np.int32),
            _joined([t.end for t in found.tables], np.int32),
            _joined([t.full for t in found.tables], np.uint8),
            np.ascontiguousarray(found.pattern, np.int32),
        )


def table_builders(plan: Plan, arguments: Arguments, call: Call, tile: Tile) -> list[TableBuilder]:
    """One builder for each table of the arguments. `tile`: queries of a row of a table, and keys between possible ends
    of its segments."""
    return [
        TableBuilder(plan, arguments, plan.branches[branch].keysets[index], index == 0, call, tile)
        for branch, index in arguments.tables
    ]


def _joined(parts: Sequence[Any], dtype: Any) -> Any:
    return np.concatenate([*parts, np.zeros(0, dtype)]).astype(dtype)


def _numpy(value: Tensor) -> Any:
    return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
