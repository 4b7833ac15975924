"""The positions that a call may ask for, as boxes: one for the whole call, or one for each length that it has.

Every pair of a packed sequence, or of a paged one, lies in a box of its own: its batch, its queries, its keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np

from attngen.codegen.analysis import LoadBounds, Sizes, Tiles
from attngen.codegen.analysis.deferred import Deferred, array
from attngen.codegen.analysis.interval import Interval, ints
from attngen.codegen.analysis.tiles import evaluator
from attngen.codegen.pages import capacity
from attngen.codegen.plan import KeySetPlan, Plan
from attngen.ir.expr import Load
from attngen.ir.nodes import Paged, Segments, Sequence


@dataclass(frozen=True, slots=True)
class Boxes:
    """Batches (None: all), queries and keys of each box, as numbers or as arrays of one entry for each box.

    `starts` tells where the boxes begin along axes "q" and "kv" of the inputs; `lengths`, how long they are there. With
    `shorter` n_k stands for every number of keys up to this one.
    """

    plan: Plan
    n_b: int
    n_h: int
    n_q: Any
    n_k: Any
    b: Any = None
    starts: Mapping[str, Any] | None = None
    lengths: Mapping[str, Any] | None = None
    shorter: bool = False

    @property
    def empty(self) -> bool:
        """Whether it is known that there is no pair at all."""
        if min(self.n_b, self.n_h) < 1 or 0 in np.shape(self.b):
            return True
        return not isinstance(self.live, Deferred) and not bool(np.all(self.live))

    @property
    def live(self) -> Any:
        """In which boxes there are pairs."""
        return (self.n_q > 0) & (self.n_k > 0)

    def symbols(self) -> dict[str, Interval]:
        """The range of every symbol in every box."""
        space = self.plan.spec.space
        sizes = cast(Any, Sizes)(self.n_q, self.n_k, self.n_b, self.n_h)
        tiles = Tiles((self.n_q * 0, self.n_q - 1), (self.n_k * 0, self.n_k - 1))
        flat = Sequence() if isinstance(space, Segments | Paged) else space
        found = dict(evaluator(flat, tiles, sizes, b=self.b).symbols)
        return found | {"n_k": ints(1, self.n_k)} if self.shorter else found

    def loads(self, known: LoadBounds) -> LoadBounds:
        """Bounds of elements, of which `known` tells for whole tensors."""
        if self.starts is None:
            return known
        axes = {i.name: i.axes for i in self.plan.spec.inputs}
        starts = self.starts

        def moved(ends: tuple[Any, ...], labels: tuple[str, ...]) -> tuple[Any, ...]:
            return tuple(end + starts.get(label, 0) for end, label in zip(ends, labels, strict=True))

        def bounds(load: Load, lowest: tuple[Any, ...], highest: tuple[Any, ...]) -> Any:
            labels = axes[load.tensor]
            return known(load, moved(lowest, labels), moved(highest, labels))

        return bounds

    @property
    def pairs(self) -> int:
        """Pairs of query and key of one head, over all boxes."""
        return int(np.sum(self.n_q * self.n_k))

    def extents(self, name: str, shape: tuple[int, ...]) -> tuple[Any, ...]:
        """The shape of an input as a box sees it: an axis with one entry for all batches or heads has theirs."""
        declared = self.plan.spec.input(name)
        if declared is None:
            return shape
        whole = {"b": self.n_b, "h": self.n_h}
        found = [whole.get(axis, n) if n == 1 else n for axis, n in zip(declared.axes, shape, strict=True)]
        parts = self.lengths or {}
        return tuple(parts.get(axis, n) for axis, n in zip(declared.axes, found, strict=True))

    def each(self, extents: Mapping[str, tuple[Any, ...]], values: Mapping[str, Any]) -> Iterator[Box]:
        """Box by box, with the shapes and the values of the inputs as it sees them."""
        for i in range(np.size(self.n_q)):
            at: Any = partial(_entry, i)
            cut = {name: self._cut(name, value, i) for name, value in values.items()}
            sizes = Sizes(at(self.n_q), at(self.n_k), self.n_b, self.n_h)
            shapes = {name: tuple(map(at, shape)) for name, shape in extents.items()}
            yield Box(sizes, None if self.b is None else at(self.b), shapes, cut)

    def _cut(self, name: str, value: Any, i: int) -> Any:
        declared = self.plan.spec.input(name)
        if declared is None or self.starts is None or self.lengths is None:
            return value
        for dimension, axis in enumerate(declared.axes):
            if axis in self.starts:
                value = value.narrow(dimension, int(self.starts[axis][i]), int(self.lengths[axis][i]))
        return value


@dataclass(frozen=True, slots=True)
class Box:
    """One box: its sizes, its batch (None: all of them), the shapes and the values of the inputs."""

    sizes: Sizes
    b: int | None
    extents: Mapping[str, tuple[int, ...]]
    values: Mapping[str, Any]


def _entry(i: int, value: Any) -> int:
    return int(value if np.ndim(value) == 0 else value[i])


def boxes_of(
    plan: Plan,
    keyset: KeySetPlan,
    main: bool,
    sizes: tuple[int, int, int],
    shapes: Mapping[str, tuple[int, ...]],
    tokens: int,
    values: Mapping[str, Any],
) -> Boxes:
    """The boxes of a key set, for (batches, heads, queries) and the arrays that decide lengths.

    Without the lengths of a paged cache: one box for all that they may be. What arrays hold may come later.
    """
    n_b, n_h, n_q = sizes
    match plan.spec.space:
        case Segments() as space:
            totals = {"q": n_q, "kv": shapes["k"][tokens]}
            return _of_segments(plan, space, keyset, n_h, shapes[keyset.v.tensor][tokens], totals, values)
        case Paged(table=table, lengths=name) as space if main:
            if name not in values:
                return Boxes(plan, n_b, n_h, n_q, capacity(space, shapes[table]), shorter=True)
            if isinstance(values[name], Deferred):
                later = np.clip(array(values[name], np.int64), 0, capacity(space, shapes[table]))
                return Boxes(plan, n_b, n_h, n_q, later, np.arange(n_b))
            given = np.broadcast_to(values[name], n_b).astype(np.int64)
            kept = np.flatnonzero(given > 0)
            return Boxes(plan, n_b, n_h, np.full(len(kept), n_q), given[kept], kept)
        case _:
            return Boxes(plan, n_b, n_h, n_q, shapes[keyset.v.tensor][tokens])


def _of_segments(
    plan: Plan,
    space: Segments,
    keyset: KeySetPlan,
    n_h: int,
    shared: int,
    totals: Mapping[str, int],
    values: Mapping[str, Any],
) -> Boxes:
    at = {"q": values[space.q_offsets].astype(np.int64), "kv": values[space.k_offsets].astype(np.int64)}
    declared = plan.spec.input(keyset.v.tensor)
    packed = declared is None or declared.axes[2] == "kv"
    if any(isinstance(offsets, Deferred) for offsets in at.values()):
        # Checked elsewhere: offsets rise from 0 to the number of tokens.
        starts = {axis: np.clip(offsets[:-1], 0, totals[axis]) for axis, offsets in at.items()}
        parts = {axis: np.clip(offsets[1:] - offsets[:-1], 0, totals[axis]) for axis, offsets in at.items()}
        count = at["q"].shape[0] - 1
        return Boxes(plan, count, n_h, parts["q"], parts["kv"] if packed else shared, np.arange(count), starts, parts)
    length = {axis: np.diff(offsets) for axis, offsets in at.items()}
    keys = length["kv"] if packed else np.full_like(length["kv"], shared)
    kept = (length["q"] > 0) & (keys > 0)
    return Boxes(
        plan,
        len(kept),
        n_h,
        length["q"][kept],
        keys[kept],
        np.flatnonzero(kept),
        {axis: offsets[:-1][kept] for axis, offsets in at.items()},
        {axis: each[kept] for axis, each in length.items()},
    )
