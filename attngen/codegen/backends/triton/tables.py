"""Block tables as a Triton kernel reads them: for each query tile first the key tiles that need the mask, then the
others.

A table of a mask that reads tensors is made on their device, of a size that shapes alone decide: no launch waits, and a
CUDA graph makes it anew at every replay. Where that is not possible the host makes it, and says so.
"""

from __future__ import annotations

import logging
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from attngen.codegen.analysis.deferred import NeedsElements
from attngen.codegen.analysis.interval import Truth
from attngen.codegen.calls.program import Program
from attngen.codegen.calls.tables import Parts, TableBuilder
from attngen.codegen.on_device import WARM_UP, OnDevice, refuse_capture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

MOST_PROGRAMS = 16
"""Sets of run-time numbers for which programs are kept."""
log = logging.getLogger("attngen.triton")


class TileTable:
    """The tables of one key set on a device, made anew where the values that decide them change."""

    def __init__(self, builder: TableBuilder, ordered: bool, device: Any) -> None:
        self._builder, self._ordered, self._device = builder, ordered, device
        self._reason = "" if builder.names[0] else "the mask reads no tensor"
        self._programs: dict[tuple[float, ...], DeviceTable] = {}
        self._tables = OnDevice(self._made, *builder.places, device)

    def __call__(self, inputs: Sequence[Tensor], scalars: Sequence[float]) -> Sequence[Tensor]:
        """first, middle, last, index, pattern (visits.py)."""
        return self._tables(inputs, scalars)

    def _made(self, tensors: list[Tensor], numbers: tuple[float, ...]) -> Sequence[Tensor]:
        import torch

        if 0 in _shape(self._builder):
            count = max(1, prod(_shape(self._builder)[:3]))
            return [torch.zeros(count, dtype=torch.int32, device=self._device)] * 5
        if not self._reason:
            try:
                return self._program(tensors, numbers)(dict(zip(self._builder.names[0], tensors, strict=True)))
            except NeedsElements as reason:
                self._reason = str(reason)
                log.warning("the host makes the block table of new tensors, and waits for the device: %s", reason)
        refuse_capture(
            self._device,
            f"the host makes its block table ({self._reason})" if tensors else WARM_UP.format("its block table is"),
        )
        parts = self._builder.parts([t.detach().cpu() for t in tensors], numbers)
        arrays = key_tiles(parts, self._builder.tile[1], self._ordered)
        return [torch.from_numpy(a).to(self._device) for a in arrays]

    def _program(self, tensors: list[Tensor], numbers: tuple[float, ...]) -> DeviceTable:
        found = self._programs.get(numbers)
        if found is None:
            classes = self._builder.classes(tensors, numbers)
            refuse_capture(self._device, WARM_UP.format("what its block table is made with is"))
            if len(self._programs) >= MOST_PROGRAMS:
                self._programs.clear()
            found = self._programs[numbers] = DeviceTable(self._builder, classes, self._ordered, self._device)
        return found


class DeviceTable:
    """Makes the tables of one key set from tensors by name, on their device."""

    def __init__(self, builder: TableBuilder, classes: Truth, ordered: bool, device: Any) -> None:
        import torch

        n_b, n_h, rows, self._columns = _shape(builder)
        unsure = classes.may_be_false
        if builder.sizes.n_k % builder.tile[1]:
            # A tile that sticks out over the last key is masked there.
            unsure = unsure | (np.arange(self._columns) == self._columns - 1)
        self._classes = Program([classes.may_be_true, np.True_ if ordered else unsure], device)
        shapes = (classes.may_be_true.shape, unsure.shape)
        different = np.broadcast_shapes((1, 1, 1, 1), *shapes)[:2]
        b, h = (np.arange(n) if d > 1 else np.zeros(n, int) for n, d in zip((n_b, n_h), different, strict=True))
        self._shape = (different[0] * different[1], rows, self._columns)
        self._full = (*different, rows, self._columns)
        first = np.arange(self._shape[0] * rows, dtype=np.int32) * (self._columns + 1) + 1
        constants = (first, np.arange(self._columns, dtype=np.int32), (b[:, None] * different[1] + h).astype(np.int32))
        self._first, self._tile, self._pattern = (torch.from_numpy(a).to(device) for a in constants)

    def __call__(self, tensors: dict[str, Tensor]) -> list[Tensor]:
        """As `key_tiles`. Every row has places for all of its tiles, after one for those that nobody visits."""
        import torch

        with torch.no_grad():
            seen, unsure = (each.expand(self._full).reshape(self._shape) for each in self._classes(tensors))
            partial = seen & unsure
            full = seen & ~unsure
            partials, fulls = (each.cumsum(-1, dtype=torch.int32) for each in (partial, full))
            fulls += partials[..., -1:]
            place = torch.where(partial, partials, fulls * full)
            index = torch.empty((*self._shape[:2], self._columns + 1), dtype=torch.int32, device=place.device)
            index.scatter_(-1, place.long(), self._tile.expand(self._shape))
            middle, last = (self._first + each[..., -1].reshape(-1) for each in (partials, fulls))
        return [self._first, middle, last, index, self._pattern.reshape(-1)]


def _shape(builder: TableBuilder) -> tuple[int, int, int, int]:
    """Batches, heads, rows of tiles, and tiles of a row."""
    size, (tile_q, tile_k) = builder.sizes, builder.tile
    return size.n_b, size.n_h, -(-size.n_q // tile_q), -(-size.n_k // tile_k)


def key_tiles(parts: Parts, tile: int, ordered: bool) -> tuple[Any, ...]:
    """The tables from segments of whole key tiles. `ordered`: all of them need the mask, in the order of their keys."""
    offsets, begin, end, full, pattern = parts
    counts = -(-end.astype(np.int64) // tile) - begin // tile
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    row = np.repeat(rows, counts)
    starts = np.cumsum(counts) - counts
    index = np.repeat(begin // tile - starts, counts) + np.arange(counts.sum())
    # A tile that sticks out over the last key is masked there.
    whole = np.repeat(full.astype(bool), counts) & ((index + 1) * tile <= np.repeat(end, counts))
    if ordered:
        whole[:] = False
    order = np.lexsort((index, whole, row))
    row, index, whole = row[order], index[order], whole[order]
    bounds = np.searchsorted(row, np.arange(len(offsets)))
    partial = np.bincount(row[~whole], minlength=len(offsets) - 1)
    first, last = bounds[:-1], bounds[1:]
    # An empty tensor has no address.
    padded = np.append(index, 0)
    return tuple(np.ascontiguousarray(a, np.int32) for a in (first, first + partial, last, padded, pattern.reshape(-1)))
