"""Block tables as a Triton kernel reads them: for each query tile first the key tiles that need the mask, then the
others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from attngen.codegen.calls.tables import Parts, TableBuilder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class TileTable:
    """The tables of one key set on a device, made anew where the values that decide them change."""

    def __init__(self, builder: TableBuilder, ordered: bool, device: Any) -> None:
        self._builder, self._ordered, self._device = builder, ordered, device
        self._last: tuple[Parts, list[Tensor]] | None = None

    def __call__(self, inputs: Sequence[Tensor], scalars: Sequence[float]) -> list[Tensor]:
        """first, middle, last, index, pattern (visits.py)."""
        import torch

        parts = self._builder.build(inputs, scalars)
        last = self._last
        if last is None or last[0] is not parts:
            arrays = key_tiles(parts, self._builder.tile[1], self._ordered)
            made = [torch.from_numpy(a).to(self._device) for a in arrays]
            last = self._last = (parts, made)
        return last[1]


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
