"""How much of a mask the tiles of a config visit: what a cost model has to know of *this* mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attngen.codegen.analysis import Arrays, Sizes, schedule
from attngen.codegen.analysis.boxes import box_visits
from attngen.codegen.analysis.tiles import size_symbols
from attngen.codegen.boxes import Boxes
from attngen.codegen.lower.lowered import added_inputs, counted
from attngen.codegen.pages import mask_of_batches
from attngen.ir.nodes import Grid

if TYPE_CHECKING:
    from attngen.autotune.workload import Workload


@dataclass(frozen=True, slots=True)
class Visits:
    """Pairs of one key set, over all batches and heads, that tiles compute: without the mask, and with it."""

    full: float
    partial: float

    @property
    def pairs(self) -> float:
        return self.full + self.partial


class Seen:
    """The visits of a call for tiles of any size; each size is looked at once."""

    def __init__(self, work: Workload) -> None:
        self._work = work
        self._plan = counted(work.plan)
        self._arrays = _arrays(work)
        self._known: dict[tuple[tuple[int, int], tuple[int, ...]], tuple[tuple[Visits, ...], ...]] = {}

    def of(self, tile: tuple[int, int], box: tuple[int, ...] = ()) -> tuple[tuple[Visits, ...], ...]:
        """Key sets by branch, for tiles of so many queries and keys, or for tiles that are boxes of a grid."""
        found = self._known.get((tile, box))
        if found is None:
            found = tuple(
                tuple(self._visits(i, j, tile, box) for j in range(len(branch.keysets)))
                for i, branch in enumerate(self._plan.branches)
            )
            self._known[tile, box] = found
        return found

    def _visits(self, i: int, j: int, tile: tuple[int, int], box: tuple[int, ...]) -> Visits:
        plan, work = self._plan, self._work
        keyset = plan.branches[i].keysets[j]
        n_b, n_h, n_q, n_k = work.sizes
        if j:
            n_k = self._keys_of(keyset.dots[0].k.tensor)
        cells, sizes = float(n_b * n_h * n_q * n_k), Sizes(n_q, n_k, n_b, n_h)
        if not keyset.masked or not cells:
            return Visits(cells, 0.0)
        space = keyset.space
        if box and isinstance(space, Grid) and keyset.ranges is not None and keyset.ranges.axes:
            seen = box_visits(keyset.ranges.axes, Boxes(space.dims, box), size_symbols(sizes), self._arrays)
            if seen is not None:
                heads = n_b * n_h
                volume = seen.boxes.volume**2
                return Visits(float(heads * seen.full * volume), float(heads * (seen.visited - seen.full) * volume))
        mask = keyset.mask if j else mask_of_batches(keyset.mask, plan.spec.space)
        within = keyset.ranges or keyset.within
        told = schedule(mask, space, sizes, tile, self._arrays, within=within).statistics()
        return Visits(told.least_visible * cells, (told.most_visible - told.least_visible) * cells)

    def _keys_of(self, name: str) -> int:
        tensors = dict(zip((i.name for i in self._work.spec.inputs if i.axes), self._work.inputs, strict=True))
        return int(tensors[name].shape[1 if self._work.layout == "bnhd" else 2])


def _arrays(work: Workload) -> Arrays:
    """Everything that masks may read."""
    spec = work.spec
    tensors = dict(zip((i.name for i in spec.inputs if i.axes), work.inputs, strict=True))
    ints = [i.name for i in spec.inputs if not i.axes and i.type != "float"]
    floats = [i.name for i in spec.inputs if not i.axes and i.type == "float"]
    known: dict[str, Any] = {**tensors, **added_inputs(work.plan, work.call, work.numbers)}
    known |= zip((*ints, *floats), work.numbers, strict=True)
    return Arrays({name: _array(value) for name, value in known.items()})


def _array(value: Any) -> Any:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    return np.asarray(value)
