"""Bounds of tensor elements over ranges of their indices: range minima and maxima in O(N) memory.

A query takes O(log N) vectorised steps, or one look-up at each end where the rows of the tensor ascend (packed document
ids, cu_seqlens).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from attngen.codegen.analysis.interval import Array, Bools, Ints
from attngen.ir.expr import Load

LoadBounds = Callable[[Load, tuple[Array, ...], tuple[Array, ...]], tuple[Array, Array] | None]
"""(load, lowest indices, highest indices) -> (lowest, highest element), inclusive; None: nothing is known."""


def unknown(load: Load, lowest: tuple[Array, ...], highest: tuple[Array, ...]) -> tuple[Array, Array] | None:
    """The provider that knows no tensor."""
    return None


class Arrays:
    """Bounds from the tensors themselves, by name. Numbers count as tensors without dimensions."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self.arrays = {name: np.asarray(a) for name, a in arrays.items()}
        self._pyramids: dict[str, Pyramid] = {}

    def __call__(self, load: Load, lowest: tuple[Array, ...], highest: tuple[Array, ...]) -> tuple[Array, Array] | None:
        array = self.arrays.get(load.tensor)
        if array is None or array.ndim != len(lowest) or array.size == 0:
            return None
        if array.ndim == 0:
            return _widened(array), _widened(array)
        if load.tensor not in self._pyramids:
            self._pyramids[load.tensor] = Pyramid(array)
        return self._pyramids[load.tensor].bounds(lowest, highest)


class Pyramid:
    """Minima and maxima of blocks of 2, 4, 8, ... consecutive elements of a tensor in row-major order."""

    def __init__(self, array: Array) -> None:
        self.shape = array.shape
        self.flat = np.ascontiguousarray(array).reshape(-1)
        rows = self.flat.reshape(-1, self.shape[-1])
        self.ascending = bool((rows[:, 1:] >= rows[:, :-1]).all())
        self._least: list[Array] = []
        self._most: list[Array] = []

    def bounds(self, lowest: tuple[Array, ...], highest: tuple[Array, ...]) -> tuple[Array, Array]:
        """Bounds over boxes of indices, which are clipped to the tensor first.

        A box over several rows is widened to everything between its first and its last element in row-major order.
        """
        first, last = self._position(lowest), self._position(highest)
        inside_a_row = all(bool(np.all(lo == hi)) for lo, hi in zip(lowest[:-1], highest[:-1], strict=True))
        if bool(np.all(first == last)) or (self.ascending and inside_a_row):
            return _widened(self.flat[first]), _widened(self.flat[last])
        if not self._least:
            self._least, self._most = self._levels(np.minimum), self._levels(np.maximum)
        shape = np.broadcast_shapes(first.shape, last.shape)
        first, last = np.broadcast_to(first, shape).reshape(-1), np.broadcast_to(last, shape).reshape(-1)
        least = _reduce(self._least, np.minimum, first, last)
        most = _reduce(self._most, np.maximum, first, last)
        return _widened(least.reshape(shape)), _widened(most.reshape(shape))

    def _position(self, indices: tuple[Array, ...]) -> Ints:
        position: Ints = np.zeros((), np.int64)
        for index, extent in zip(indices, self.shape, strict=True):
            position = position * extent + np.clip(index, 0, extent - 1)
        return position

    def _levels(self, reduce: np.ufunc) -> list[Array]:
        levels = [self.flat]
        while len(levels[-1]) > 1:
            below = levels[-1]
            even = len(below) // 2 * 2
            above = reduce(below[0:even:2], below[1:even:2])
            levels.append(np.append(above, below[-1]) if even < len(below) else above)
        return levels


def _reduce(levels: list[Array], reduce: np.ufunc, first: Ints, last: Ints) -> Array:
    """The reduction over first .. last inclusive, from the bottom of the pyramid up."""
    low, high = first.copy(), last + 1
    result = levels[0][first]
    for level in levels:
        active = low < high
        if not active.any():
            break
        result = _take(result, level, low, active & (low & 1 == 1), reduce)
        low = (low + 1) >> 1
        result = _take(result, level, high - 1, active & (high & 1 == 1), reduce)
        high = high >> 1
    return result


def _take(result: Array, level: Array, index: Ints, where: Bools, reduce: np.ufunc) -> Array:
    index = np.clip(index, 0, len(level) - 1)
    return np.where(where, reduce(result, level[index]), result)


def _widened(a: Array) -> Array:
    a = np.asarray(a)
    return a.astype(np.float64) if a.dtype.kind == "f" else a.astype(np.int64)
