"""Block tables for masks without a closed form: built per call from the values at hand, kept while those stay the
same; or classes of tiles, of tensors that are only there later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from attngen.codegen.analysis import Arrays, Sizes, Truth, all_tiles, patterns, schedule, turned, turned_ranges
from attngen.codegen.analysis.deferred import NeedsElements
from attngen.codegen.backend import Call
from attngen.codegen.calls.arguments import Arguments
from attngen.codegen.calls.elements import Elements, later
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

MOST_TILES = 1 << 24
"""Tiles of which each is looked at, over all batches and heads that may differ."""


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
        self.places = [tensors.index(n) for n in self.names[0]], [scalars.index(n) for n in self.names[1]]
        # What lowering added is made anew where it changes.
        added = frozenset(place for place in self.places[0] if place >= given)
        self.build: Kept[Parts] = Kept(self.parts, *self.places, added)
        """`parts` for the inputs and scalars of a call."""

    def parts(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> Parts:
        """Offsets, begins, ends, full flags and patterns for what the mask reads, in the order of `names`."""
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

    def classes(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> Truth:
        """The mask on all tiles (`all_tiles`), where only shapes of the tensors are known yet. Raises `NeedsElements`
        where that does not do."""
        size, depends = self.sizes, patterns(self.mask)
        tables = (size.n_b if depends.b else 1) * (size.n_h if depends.h else 1)
        count = tables * -(-size.n_q // self.tile[0]) * -(-size.n_k // self.tile[1])
        if count > MOST_TILES:
            raise NeedsElements(f"{count} tiles are too many to look at each of them")
        named = {name: later(name, t) for name, t in zip(self.names[0], tensors, strict=True)}
        data = Elements(named | dict(zip(self.names[1], numbers, strict=True)), lanes=True)
        return all_tiles(self.mask, self.space, size, self.tile, data, depends.b, depends.h)


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
