"""Arrays whose elements come later: numpy's functions note down what they would do with them.

The analysis is written for numpy. What it finds out from the elements of a tensor on a device must neither wait for the
device nor be kept when the tensor changes, so a `Deferred` takes the place of the array: every operation gives another
one, and what needs no tensor is computed at once. `calls/program.py` does what was noted, with torch.

Equal operations are one object, so `lo is hi` says that an interval holds a single value. Integers know the least and
the greatest that they can be: what that decides is no operation at all, such as saturation where nothing can overflow.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, cast
from weakref import WeakValueDictionary

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from attngen.codegen.analysis.deferred_spans import WIDEST, Span, decided, span_of, whole

SMALL = 1 << 16
"""Bytes up to which constants are compared by their elements."""

Argument = Any
"""Deferred, or an array that is known."""


class NeedsElements(Exception):
    """What is asked for needs the elements now; the message is the reason, as part of a sentence."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Deferred(NDArrayOperatorsMixin):
    """What `function` (numpy's name, or one that takes tensors) gives of `args`. `span`: bounds, except of floats."""

    function: str | Callable[..., Any]
    args: tuple[Argument, ...]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    span: Span | None

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            raise NeedsElements(f"numpy's {ufunc.__name__}.{method} of tensors has no counterpart on a device")
        args = tuple(map(_argument, inputs))
        kinds = [type(x) if type(x) in (int, float) else a.dtype for x, a in zip(inputs, args, strict=True)]
        dtype = ufunc.resolve_dtypes((*kinds, None))[-1]
        return _operation(ufunc.__name__, args, dtype)

    def __array_function__(self, function: Any, types: Any, inputs: Sequence[Any], options: dict[str, Any]) -> Any:
        match function.__name__, inputs:
            case "where", (condition, a, b):
                kinds = [x if type(x) in (int, float) else x.dtype for x in (a, b)]
                return _where(_argument(condition), _argument(a), _argument(b), np.result_type(*kinds))
            case "clip", (Deferred() as a, int(low), int(high)) if a.span is not None:
                least, most = (min(max(end, low), high) for end in a.span)
                span = (least, most)
                return a if span == a.span else deferred(Clamp(low, high), (a,), a.dtype, a.shape, span)
        raise NeedsElements(f"numpy's {function.__name__} of tensors has no counterpart on a device")

    @property
    def size(self) -> int:
        return prod(self.shape)

    def astype(self, dtype: Any) -> Any:
        """The elements as another type."""
        wanted = np.dtype(dtype)
        if wanted == self.dtype:
            return self
        return deferred("astype", (self,), wanted, self.shape, self.span if wanted.kind == "i" else None)

    def reshape(self, *shape: int) -> Any:
        """The elements in another shape."""
        if -1 in shape:
            shape = tuple(self.size // -prod(shape) if n == -1 else n for n in shape)
        return self if shape == self.shape else deferred(Shape(shape), (self,), self.dtype, shape, self.span)

    def __getitem__(self, part: slice | int) -> Any:
        """A part of the first axis."""
        if not isinstance(part, slice):
            return self._unknown()
        count = len(range(*part.indices(self.shape[0])))
        return deferred(Slice(part.start, part.stop), (self,), self.dtype, (count, *self.shape[1:]), self.span)

    def _unknown(self, *_: Any, **__: Any) -> Any:
        raise NeedsElements("a decision of the analysis depends on what tensors hold")

    __array__ = __bool__ = __int__ = __float__ = __index__ = __iter__ = __len__ = _unknown
    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class Slice:
    """tensor[start:stop]"""

    start: int | None
    stop: int | None

    def __call__(self, tensor: Any) -> Any:
        return tensor[self.start : self.stop]


@dataclass(frozen=True, slots=True)
class Shape:
    """The tensor in another shape."""

    shape: tuple[int, ...]

    def __call__(self, tensor: Any) -> Any:
        return tensor.reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Clamp:
    """The nearest of low .. high."""

    low: int
    high: int

    def __call__(self, tensor: Any) -> Any:
        return tensor.clamp(self.low, self.high)


_known: WeakValueDictionary[tuple[Hashable, ...], Deferred] = WeakValueDictionary()


def deferred(
    function: str | Callable[..., Any],
    args: tuple[Argument, ...],
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    span: Span | None = None,
) -> Any:
    """The noted operation, or the number that it can only be. `function` is hashable: equal ones do the same."""
    if dtype.kind != "f":
        span = whole(dtype) if span is None else span
        if span[0] == span[1]:
            return np.asarray(span[0], dtype)
    key = (function, dtype, shape, *map(_identity, args))
    # An entry lives as long as its operation, which holds the arguments, so no other object has their place.
    found = _known.get(key)
    if found is None:
        found = _known[key] = Deferred(function, args, dtype, shape, span)
    return found


def given(name: str, dtype: Any, shape: tuple[int, ...], span: Span | None = None) -> Any:
    """A tensor of a call, by name."""
    return deferred(("given", name), (), np.dtype(dtype), shape, span)  # type: ignore[arg-type]


def array(value: Any, dtype: Any = None) -> NDArray[Any]:
    """np.asarray, also of what comes later: to types it is an array, as it is to all who use it."""
    if isinstance(value, Deferred):
        return cast(NDArray[Any], value if dtype is None else value.astype(dtype))
    return np.asarray(value, dtype)


def _argument(value: Any) -> Argument:
    return value if isinstance(value, Deferred) else np.asarray(value)


def _identity(arg: Argument) -> Hashable:
    if isinstance(arg, Deferred) or arg.nbytes > SMALL:
        return id(arg)
    return arg.dtype.str, arg.shape, arg.tobytes()


def _operation(name: str, args: tuple[Argument, ...], dtype: np.dtype[Any]) -> Any:
    spans = [span(a) for a in args]
    if len(args) == 2:
        a, b = args
        found = _simpler(name, a, b, spans)
        if found is not None:
            return array(found, dtype)
    elif name in ("isnan", "isinf", "isfinite") and spans[0] is not None:
        return np.asarray(name == "isfinite")
    bounds = None if dtype.kind == "f" else span_of(name, spans, dtype)
    return deferred(name, args, dtype, np.broadcast_shapes(*(a.shape for a in args)), bounds)


def _simpler(name: str, a: Argument, b: Argument, spans: list[Span | None]) -> Any:
    """What a pair gives without an operation, or None."""
    x, y = spans
    if x is None or y is None:
        return None
    truth = decided(name, x, y, a is b)
    if truth is not None:
        return np.asarray(truth)
    match name:
        case "minimum" if a is b or x[1] <= y[0]:
            return a
        case "minimum" if y[1] <= x[0]:
            return b
        case "maximum" if a is b or x[0] >= y[1]:
            return a
        case "maximum" if y[0] >= x[1]:
            return b
        case "bitwise_and" | "bitwise_or" if a is b:
            return a
        case "bitwise_and" if a.dtype.kind == "b" and (1, 1) in spans:
            return b if x == (1, 1) else a
        case "bitwise_or" | "bitwise_xor" if a.dtype.kind == "b" and (0, 0) in spans:
            return b if x == (0, 0) else a
        case "add" if (0, 0) in spans:
            return b if x == (0, 0) else a
        case "subtract" if y == (0, 0):
            return a
        case "multiply" if (1, 1) in spans:
            return b if x == (1, 1) else a
    return None


def _where(condition: Argument, a: Argument, b: Argument, dtype: np.dtype[Any]) -> Any:
    chosen = span(condition)
    if a is b or chosen == (1, 1):
        return array(a, dtype)
    if chosen == (0, 0):
        return array(b, dtype)
    x, y = span(a), span(b)
    bounds = None if x is None or y is None else (min(x[0], y[0]), max(x[1], y[1]))
    shape = np.broadcast_shapes(condition.shape, a.shape, b.shape)
    return deferred("where", (condition, a, b), dtype, shape, bounds)


def span(value: Argument) -> Span | None:
    """Bounds of an integer or bool."""
    if isinstance(value, Deferred):
        return value.span
    known: NDArray[Any] = value
    if known.dtype.kind == "f":
        return None
    return (int(known.min()), int(known.max())) if known.size else WIDEST
