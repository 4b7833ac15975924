"""How packed sequences are divided among tasks: no task reaches over a long sequence into another one.

Two sequences share no key, so rows of both in one tile would be products for nothing. Short ones are put together, as
there would be more tasks than work otherwise. The division follows from the offsets alone, never from threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

WANTED_TASKS = 64
TOGETHER = 4
"""Tiles of short sequences that are put together, about."""

HEADER = 2
"""Entries before the first unit: how many units there are, and how many queries the largest has."""


@dataclass(frozen=True, slots=True)
class Division:
    """The rows of a query tile, the tiles that a task takes at most, and the heads of the call."""

    tile: int
    tiles: int
    heads: int

    def most_entries(self, sequences: int, n_q: int) -> int:
        """A length that holds the table of any offsets."""
        return HEADER + sequences + n_q // self.tile + 2

    def table(self, q: Any, k: Any) -> Any:
        """The header, where each unit begins, and where the last one ends, from the offsets of queries and of keys."""
        total = int(q[-1])
        lengths, keys = np.diff(q), np.diff(k)
        begins, lengths, keys = q[:-1][lengths > 0], lengths[lengths > 0], keys[lengths > 0]
        piece = self.tile * min(self.tiles, max(1, -(-self.heads * total // (WANTED_TASKS * self.tile))))
        short = (2 * lengths <= self.tile) & (keys <= TOGETHER * self.tile)
        together = min(piece, self.tile * max(1, min(TOGETHER, self.tiles - 1)))
        bucket = np.where(short, begins // together, -1)
        joined = np.zeros(len(begins), bool)
        joined[1:] = short[1:] & (bucket[1:] == bucket[:-1])
        count = np.where(short, 1, -(-lengths // piece))
        count[joined] = 0
        first = np.repeat(np.cumsum(count) - count, count)
        starts = np.repeat(begins, count) + piece * (np.arange(len(first)) - first)
        most = int(np.diff(np.append(starts, total)).max(initial=0))
        return np.concatenate([[len(starts), most], starts, [total]]).astype(np.int32)
