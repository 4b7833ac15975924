"""Bounds of the elements of tensors that are looked at later, on their device: `LoadBounds` that note what to do.

Where indices follow from positions alone, every dimension is cut into the windows that tiles ask for, whatever the
tensor holds: O(N) memory, exact bounds of boxes, and a plain look-up where each window is one element.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from attngen.codegen.analysis.deferred import Deferred, NeedsElements, array, deferred, given
from attngen.codegen.analysis.frame import KEYS, QUERIES, depends_on
from attngen.codegen.analysis.interval import Array
from attngen.ir.expr import Load

if TYPE_CHECKING:
    from torch import Tensor

MOST_ELEMENTS = 1 << 24
"""Elements that windows may hold together."""
FEW = 1 << 20
"""Elements up to which one conversion of all of them takes less time than one for each bound."""
LANE = 2**31
Kind = Literal["amin", "amax"]


class Elements:
    """Bounds of what has these names: tensors that come later (`later`), and numbers. `lanes`: integers that differ
    between queries or keys are held in 32 bits, which is checked elsewhere."""

    def __init__(self, values: Mapping[str, Any], lanes: bool = False) -> None:
        self._values = values
        self._lanes = lanes

    def __call__(self, load: Load, lowest: tuple[Array, ...], highest: tuple[Array, ...]) -> tuple[Any, Any] | None:
        tensor: Any = self._values.get(load.tensor)
        if tensor is not None and not isinstance(tensor, Deferred):
            number = _widened(np.asarray(tensor))
            return number, number
        if tensor is None or len(tensor.shape) != len(lowest) or 0 in tensor.shape:
            return None
        if self._lanes and tensor.span is not None and any(depends_on(i, KEYS | QUERIES) for i in load.indices):
            tensor = np.clip(tensor, -LANE, LANE - 1)
        if tensor.size <= FEW:
            tensor = _widened(tensor)
        low, high = _bounds(tensor, lowest, highest)
        return _widened(low), _widened(high)


def later(name: str, tensor: Tensor) -> Any:
    """A tensor of a call, of which only the shape is known. Types that numpy lacks count as those that hold them; a
    bool is 0 or 1."""
    kind = str(tensor.dtype)[6:]
    if kind == "bool":
        return given(name, np.uint8, tuple(tensor.shape), (0, 1))
    return given(name, "float32" if kind == "bfloat16" else kind, tuple(tensor.shape))


def _widened(a: Any) -> Any:
    return array(a, np.float64 if a.dtype.kind == "f" else np.int64)


def _bounds(tensor: Deferred, lowest: tuple[Array, ...], highest: tuple[Array, ...]) -> tuple[Any, Any]:
    """The least and the greatest element of boxes of indices, which are clipped to the tensor first."""
    low: Any = tensor
    high: Any = tensor
    places: list[Any] = []
    moving: dict[int, tuple[Any, Any]] = {}
    for axis, ends in enumerate(zip(lowest, highest, strict=True)):
        first, last = (np.clip(end, 0, tensor.shape[axis] - 1) for end in ends)
        if first is last:
            places.append(first)
        elif isinstance(first, Deferred) or isinstance(last, Deferred):
            moving[axis] = first, np.maximum(first, last)
        elif bool(np.all(first == last)):
            places.append(first)
        else:
            low, high, place = _windows(low, high, axis, first, last)
            places.append(place)
    if moving:
        return _between(low, "amin", moving, places), _between(high, "amax", moving, places)
    return _picked(low, places), _picked(high, places)


def _windows(low: Any, high: Any, axis: int, first: Array, last: Array) -> tuple[Any, Any, Any]:
    """The bounds with one entry along the axis for each window first .. last, and which of them is asked for where."""
    extent = low.shape[axis]
    first, last = np.broadcast_arrays(first, np.maximum(first, last))
    codes, place = np.unique(first * extent + last, return_inverse=True)
    begins, ends = codes // extent, codes % extent
    width = int((ends - begins).max()) + 1
    if len(codes) * width * (low.size // extent) > MOST_ELEMENTS:
        raise NeedsElements(f"{len(codes)} windows of up to {width} elements are too many to look at each of them")
    index = np.minimum(begins[:, None] + np.arange(width), ends[:, None]).reshape(-1)
    # Tiles side by side are the tensor itself.
    aside = len(index) == extent and bool(np.all(index == np.arange(extent)))
    found = []
    kinds: tuple[tuple[Any, Kind], ...] = ((low, "amin"), (high, "amax"))
    for each, kind in kinds:
        shape = (*each.shape[:axis], len(codes), *each.shape[axis + 1 :])
        cut = (*each.shape[:axis], len(codes), width, *each.shape[axis + 1 :])
        pieces = deferred(Cut(axis, len(codes), width), (each,) if aside else (each, index), each.dtype, cut, each.span)
        found.append(deferred(Reduce(kind, axis + 1), (pieces,), each.dtype, shape, each.span))
    return found[0], found[1], place.reshape(first.shape)


def _between(tensor: Any, kind: Kind, moving: Mapping[int, tuple[Any, Any]], places: list[Any]) -> Any:
    """The bounds over ranges of indices that are known on the device only; `places`: those of the other axes."""
    ends = [end for pair in moving.values() for end in pair]
    shape = np.broadcast_shapes(*(a.shape for a in (*ends, *places)))
    if prod(shape) * prod(tensor.shape[axis] for axis in moving) > MOST_ELEMENTS:
        raise NeedsElements("an index is a range that follows from what tensors hold, over too many elements")
    positions = [np.arange(tensor.shape[axis]) for axis in moving]
    return deferred(
        Between(kind, tuple(moving)), (tensor, *ends, *positions, *places), tensor.dtype, shape, tensor.span
    )


def _picked(tensor: Any, places: list[Any]) -> Any:
    """The element at these places, one array for each dimension."""
    places = [p if isinstance(p, Deferred) else _constant_axes_dropped(p) for p in places]
    shape = np.broadcast_shapes(*(p.shape for p in places))
    if _in_order(tensor.shape, places, shape):
        return tensor.reshape(*shape)
    return deferred(Pick(), (tensor, *places), tensor.dtype, shape, tensor.span)


def _constant_axes_dropped(place: NDArray[Any]) -> NDArray[Any]:
    """What does not change along an axis is written once."""

    def dropped(array: NDArray[Any], axis: int) -> NDArray[Any]:
        once = np.take(array, [0], axis)
        return once if bool(np.all(array == once)) else array

    return reduce(dropped, range(place.ndim), place)


def _in_order(sizes: tuple[int, ...], places: list[Any], shape: tuple[int, ...]) -> bool:
    """Whether every element is asked for once, in the order in which they lie there."""
    if prod(shape) != prod(sizes) or any(isinstance(p, Deferred) for p in places):
        return False
    order = np.ravel_multi_index(tuple(np.broadcast_arrays(*places)), sizes)
    return bool(np.all(order.reshape(-1) == np.arange(order.size)))


# --- on tensors -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cut:
    """The axis in windows of one width; `index` says of which elements, where they are not all of them in order."""

    axis: int
    count: int
    width: int

    def __call__(self, tensor: Tensor, index: Tensor | None = None) -> Tensor:
        chosen = tensor if index is None else tensor.index_select(self.axis, index)
        shape = chosen.shape
        return chosen.reshape(*shape[: self.axis], self.count, self.width, *shape[self.axis + 1 :])


@dataclass(frozen=True, slots=True)
class Reduce:
    """The least or the greatest along an axis."""

    kind: Kind
    axis: int

    def __call__(self, tensor: Tensor) -> Tensor:
        found: Tensor = getattr(tensor, self.kind)(self.axis)
        return found


@dataclass(frozen=True, slots=True)
class Between:
    """The same over first .. last of some axes, at places along the others: arguments are both ends of each axis, then
    its positions, then the places."""

    kind: Kind
    axes: tuple[int, ...]

    def __call__(self, tensor: Tensor, *args: Tensor) -> Tensor:
        import torch

        count = len(self.axes)
        ends, positions, places = args[: 2 * count], args[2 * count : 3 * count], args[3 * count :]
        tensor = tensor.movedim(self.axes, tuple(range(-count, 0)))
        if places:
            tensor = _look_up(tensor, places)
        if tensor.dtype is torch.bool:
            tensor = tensor.to(torch.uint8)
        info = torch.finfo(tensor.dtype) if tensor.is_floating_point() else torch.iinfo(tensor.dtype)
        outside = info.max if self.kind == "amin" else info.min
        for i, at in enumerate(positions):
            first, last = (end[(..., *[None] * count)] for end in ends[2 * i : 2 * i + 2])
            at = at[(..., *[None] * (count - 1 - i))]
            tensor = tensor.where((at >= first) & (at <= last), outside)
        found: Tensor = getattr(tensor, self.kind)(tuple(range(-count, 0)))
        return found


@dataclass(frozen=True, slots=True)
class Pick:
    """tensor[places]"""

    def __call__(self, tensor: Tensor, *places: Tensor) -> Tensor:
        return _look_up(tensor, places)


def _look_up(tensor: Tensor, places: tuple[Tensor, ...]) -> Tensor:
    """tensor[places]; an index without dimensions counts as a tensor, of which Python would ask the number."""
    import torch

    found: Tensor = torch.ops.aten.index.Tensor(tensor, list(places))
    return found
