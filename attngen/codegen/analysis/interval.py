"""Interval arithmetic over many boxes at once, in numpy, or deferred (deferred.py).

An `Interval` is a pair of arrays of inclusive bounds. Integers are int64 and saturate: a bound at or beyond 2**60
counts as unbounded. Floats are float64, rounded outward to float32 after every operation, so that the bounds hold for
an evaluation in either precision. `nan` says where the value may be NaN; the bounds speak of the other values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attngen.codegen.analysis.deferred import array

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Array = NDArray[Any]

UNBOUNDED = 2**62 - 1
LIMIT = 2**60
# The sum of two unbounded ends fits an int64, and an unbounded end less a bounded one stays beyond the limit.
SMALLEST_NORMAL = 2.0**-126
SLACK = 2.0**-10
"""Relative slack for functions that hardware evaluates approximately (the fast tanh of a GPU errs by 2**-11)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Inclusive bounds of a number in every box; int64 or float64 arrays that broadcast against each other."""

    lo: Array
    hi: Array
    nan: Bools = np.False_  # type: ignore[assignment]

    @property
    def is_float(self) -> bool:
        """Whether it bounds a float."""
        return bool(self.lo.dtype.kind == "f")

    def point(self) -> Bools:
        """Where it holds a single value."""
        return array(self.lo == self.hi)


@dataclass(frozen=True, slots=True)
class Truth:
    """A three-valued bool in every box: it may be true, it may be false, or both."""

    may_be_true: Bools
    may_be_false: Bools

    def negated(self) -> Truth:
        """not"""
        return Truth(self.may_be_false, self.may_be_true)

    def both(self, other: Truth) -> Truth:
        """and"""
        return Truth(self.may_be_true & other.may_be_true, self.may_be_false | other.may_be_false)

    def either(self, other: Truth) -> Truth:
        """or"""
        return Truth(self.may_be_true | other.may_be_true, self.may_be_false & other.may_be_false)

    def differs(self, other: Truth) -> Truth:
        """xor"""
        return Truth(
            (self.may_be_true & other.may_be_false) | (self.may_be_false & other.may_be_true),
            (self.may_be_true & other.may_be_true) | (self.may_be_false & other.may_be_false),
        )


UNKNOWN = Truth(np.asarray(True), np.asarray(True))


def ints(lo: Any, hi: Any) -> Interval:
    """An integer interval, saturated."""
    lo, hi = array(lo, np.int64), array(hi, np.int64)
    lo = np.where(lo <= -LIMIT, -UNBOUNDED, np.minimum(lo, LIMIT))
    hi = np.where(hi >= LIMIT, UNBOUNDED, np.maximum(hi, -LIMIT))
    return Interval(lo, hi)


ANY_INT = ints(-UNBOUNDED, UNBOUNDED)
ANY_FLOAT = Interval(np.asarray(-np.inf), np.asarray(np.inf), np.asarray(True))


def floats(lo: Any, hi: Any, nan: Any = False) -> Interval:
    """A float interval, rounded outward to float32; a bound that is NaN itself becomes unbounded."""
    lo, hi = array(lo, np.float64), array(hi, np.float64)
    nan = array(nan) | np.isnan(lo) | np.isnan(hi)
    lo, hi = np.where(np.isnan(lo), -np.inf, lo), np.where(np.isnan(hi), np.inf, hi)
    return Interval(_down(lo), -_down(-hi), nan)


def _down(x: Floats) -> Floats:
    with np.errstate(over="ignore", under="ignore"):
        single = x.astype(np.float32)
        single = np.where(single > x, np.nextafter(single, np.float32(-np.inf)), single)
    # Some targets flush subnormal results to zero.
    return np.where((x > 0) & (x < SMALLEST_NORMAL), 0.0, single.astype(np.float64))


def loosened(lo: Floats, hi: Floats, nan: Any, floor: float = -np.inf, ceiling: float = np.inf) -> Interval:
    """Bounds of an approximately evaluated function, within the range that it never leaves."""
    with np.errstate(invalid="ignore", over="ignore"):
        lo = np.where(np.isfinite(lo), lo - np.abs(lo) * SLACK - 1e-6, lo)
        hi = np.where(np.isfinite(hi), hi + np.abs(hi) * SLACK + 1e-6, hi)
    return floats(np.maximum(lo, floor), np.minimum(hi, ceiling), nan)


def to_float(a: Interval) -> Interval:
    """An integer interval as floats; unbounded ends become infinite."""
    if a.is_float:
        return a
    lo = np.where(a.lo <= -LIMIT, -np.inf, a.lo.astype(np.float64))
    hi = np.where(a.hi >= LIMIT, np.inf, a.hi.astype(np.float64))
    return floats(lo, hi)


def to_int(a: Interval) -> Interval:
    """Truncation toward zero; what is NaN or does not fit may become anything."""
    if not a.is_float:
        return a
    wild = a.nan | (a.lo < -LIMIT) | (a.hi > LIMIT)
    with np.errstate(invalid="ignore"):
        lo = np.where(wild, -UNBOUNDED, np.trunc(np.clip(a.lo, -LIMIT, LIMIT)).astype(np.int64))
        hi = np.where(wild, UNBOUNDED, np.trunc(np.clip(a.hi, -LIMIT, LIMIT)).astype(np.int64))
    return ints(lo, hi)


def meet(a: Interval, b: Interval) -> Interval:
    """Both hold."""
    return Interval(np.maximum(a.lo, b.lo), np.minimum(a.hi, b.hi), a.nan & b.nan)


def join(a: Interval, b: Interval) -> Interval:
    """Either may hold."""
    return Interval(np.minimum(a.lo, b.lo), np.maximum(a.hi, b.hi), a.nan | b.nan)


def choose(condition: Truth, a: Interval, b: Interval) -> Interval:
    """`a` where the condition is true, `b` where it is false, their join where it may be both."""
    only_a, only_b = ~condition.may_be_false, ~condition.may_be_true
    both = join(a, b)
    return Interval(
        np.where(only_a, a.lo, np.where(only_b, b.lo, both.lo)),
        np.where(only_a, a.hi, np.where(only_b, b.hi, both.hi)),
        np.where(only_a, a.nan, np.where(only_b, b.nan, both.nan)),
    )


def negate(a: Interval) -> Interval:
    """-a"""
    return Interval(-a.hi, -a.lo, a.nan)


def scale_int(a: Interval, factor: int) -> Interval:
    """a * factor, of integers."""
    if factor == 1:
        return a
    return negate(a) if factor == -1 else multiply(a, ints(factor, factor))


def add(a: Interval, b: Interval) -> Interval:
    """a + b"""
    if not a.is_float:
        return ints(a.lo + b.lo, a.hi + b.hi)
    with np.errstate(invalid="ignore"):
        clash = (np.isinf(a.lo) & np.isinf(b.hi)) | (np.isinf(a.hi) & np.isinf(b.lo))
        return floats(a.lo + b.lo, a.hi + b.hi, a.nan | b.nan | clash)


def subtract(a: Interval, b: Interval) -> Interval:
    """a - b"""
    return add(a, negate(b)) if a.is_float else ints(a.lo - b.hi, a.hi - b.lo)


def multiply(a: Interval, b: Interval) -> Interval:
    """a * b"""
    if a.is_float:
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            corners = [x * y for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
            clash = (np.isinf(a.lo) | np.isinf(a.hi)) & (b.lo <= 0) & (b.hi >= 0)
            clash = clash | ((np.isinf(b.lo) | np.isinf(b.hi)) & (a.lo <= 0) & (a.hi >= 0))
            # 0 * inf at a corner is NaN there, but the products next to it reach 0.
            corners = [np.where(np.isnan(c), 0.0, c) for c in corners]
        return floats(_least(corners), _most(corners), a.nan | b.nan | clash)
    corners = [_times(x, y) for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
    return ints(_least(corners), _most(corners))


def _times(x: Ints, y: Ints) -> Ints:
    with np.errstate(over="ignore"):
        exact, rough = x * y, x.astype(np.float64) * y.astype(np.float64)
    return np.where(np.abs(rough) >= LIMIT, np.sign(x) * np.sign(y) * UNBOUNDED, exact)


def _least(corners: list[Array]) -> Array:
    return np.minimum(np.minimum(corners[0], corners[1]), np.minimum(corners[2], corners[3]))


def _most(corners: list[Array]) -> Array:
    return np.maximum(np.maximum(corners[0], corners[1]), np.maximum(corners[2], corners[3]))


def divide(a: Interval, b: Interval) -> Interval:
    """a / b, of floats; unbounded where b may be 0."""
    with np.errstate(all="ignore"):
        zero = (b.lo <= 0) & (b.hi >= 0)
        corners = [np.where(zero, 0.0, x / np.where(y == 0, 1.0, y)) for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
        clash = (np.isinf(a.lo) | np.isinf(a.hi)) & (np.isinf(b.lo) | np.isinf(b.hi))
        corners = [np.where(np.isnan(c), 0.0, c) for c in corners]
        lo, hi = np.where(zero, -np.inf, _least(corners)), np.where(zero, np.inf, _most(corners))
    return floats(lo, hi, a.nan | b.nan | zero | clash)


def floor_divide(a: Interval, b: Interval) -> Interval:
    """a // b with Python's rounding, of integers; unbounded where b may be 0."""
    zero = (b.lo <= 0) & (b.hi >= 0)
    safe = [np.where(zero, 1, y) for y in (b.lo, b.hi)]
    corners = [np.where(np.abs(x) >= LIMIT, x, x // y) * np.where(np.abs(x) >= LIMIT, np.sign(y), 1)
               for x in (a.lo, a.hi) for y in safe]  # fmt: skip
    # An unbounded divisor brings quotients near 0 with it.
    wide = np.abs(b.lo) >= LIMIT, np.abs(b.hi) >= LIMIT
    lo, hi = _least(corners), _most(corners)
    lo = np.where(wide[0] | wide[1], np.minimum(lo, -1), lo)
    hi = np.where(wide[0] | wide[1], np.maximum(hi, 0), hi)
    return ints(np.where(zero, -UNBOUNDED, lo), np.where(zero, UNBOUNDED, hi))


def modulo(a: Interval, b: Interval) -> Interval:
    """a % b with the sign of the divisor, of integers; unbounded where b may be 0."""
    up, down = b.lo > 0, b.hi < 0
    lo = np.where(up, 0, np.where(down, b.lo + 1, -UNBOUNDED))
    hi = np.where(up, b.hi - 1, np.where(down, 0, UNBOUNDED))
    hi = np.where(up & (a.lo >= 0), np.minimum(hi, a.hi), hi)
    fixed = up & (b.lo == b.hi)
    divisor = np.where(fixed, b.lo, 1)
    same = fixed & (a.lo > -LIMIT) & (a.hi < LIMIT) & (a.lo // divisor == a.hi // divisor)
    below = up & (a.lo >= 0) & (a.hi < b.lo)
    lo = np.where(same, a.lo % divisor, np.where(below, a.lo, lo))
    hi = np.where(same, a.hi % divisor, np.where(below, a.hi, hi))
    return ints(lo, hi)


def absolute(a: Interval) -> Interval:
    """|a|"""
    inside = (a.lo <= 0) & (a.hi >= 0)
    nearest = np.minimum(np.abs(a.lo), np.abs(a.hi))
    return Interval(np.where(inside, nearest * 0 if not a.is_float else 0.0, nearest),
                    np.maximum(np.abs(a.lo), np.abs(a.hi)), a.nan)  # fmt: skip


def smaller(a: Interval, b: Interval) -> Interval:
    """minimum(a, b); NaN passes."""
    return Interval(np.minimum(a.lo, b.lo), np.minimum(a.hi, b.hi), a.nan | b.nan)


def larger(a: Interval, b: Interval) -> Interval:
    """maximum(a, b); NaN passes."""
    return Interval(np.maximum(a.lo, b.lo), np.maximum(a.hi, b.hi), a.nan | b.nan)


def sign(a: Interval) -> Interval:
    """-1, 0 or 1"""
    return Interval(np.sign(a.lo), np.sign(a.hi), a.nan)
