"""Spans of real numbers: what is known of the value of an expression. An end may belong to the span or not.

Sound for real numbers: rounding and overflow of floats are left aside. A span may be wider than what is reached.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

INF = math.inf


@dataclass(frozen=True, slots=True)
class Span:
    """The numbers between `low` and `high`; an open end is not one of them. Infinite ends are open."""

    low: float = -INF
    high: float = INF
    low_open: bool = True
    high_open: bool = True

    @property
    def empty(self) -> bool:
        """Whether no number is in it."""
        return self.low > self.high or (self.low == self.high and (self.low_open or self.high_open))

    @property
    def positive(self) -> bool:
        """Whether all numbers in it are above zero."""
        return self.low > 0 or (self.low == 0 and self.low_open)

    @property
    def nonnegative(self) -> bool:
        """Whether all numbers in it are at least zero."""
        return self.low >= 0

    @property
    def nonzero(self) -> bool:
        """Whether zero is not in it."""
        return self.positive or (-self).positive

    def __neg__(self) -> Span:
        return Span(-self.high, -self.low, self.high_open, self.low_open)

    def __add__(self, other: Span) -> Span:
        return _span(
            (self.low + other.low, self.low_open or other.low_open),
            (self.high + other.high, self.high_open or other.high_open),
        )

    def __mul__(self, other: Span) -> Span:
        ends = [_product(a, b) for a in _ends(self) for b in _ends(other)]
        return _span(_least(ends), _greatest(ends))

    def __and__(self, other: Span) -> Span:
        return _span(_greatest(_lows(self, other), every=False), _least(_highs(self, other), every=False))

    def __or__(self, other: Span) -> Span:
        if self.empty or other.empty:
            return other if self.empty else self
        return _span(_least(_lows(self, other)), _greatest(_highs(self, other)))

    def maximum(self, other: Span) -> Span:
        """Of the larger of two numbers."""
        return _span(_greatest(_lows(self, other), every=False), _greatest(_highs(self, other)))

    def inverse(self) -> Span:
        """Of 1 / x where x is not zero."""
        if self.low < 0 < self.high or self.low == self.high == 0:
            return LINE
        if self.high <= 0:
            return -(-self).inverse()
        high = (INF, True) if self.low == 0 else (1 / self.low, self.low_open)
        return _span((1 / self.high, self.high_open), high)

    def through(self, rising: Callable[[float], float]) -> Span:
        """Of a rising function; all numbers where it is nowhere a number."""
        if self.empty:
            return LINE
        return _span((_limit(rising, self.low), self.low_open), (_limit(rising, self.high), self.high_open))


End = tuple[float, bool]
"""A number, and whether it is left out."""

LINE = Span()


def exactly(value: float) -> Span:
    """One number. Infinities and NaN say nothing."""
    return Span(value, value, False, False) if math.isfinite(value) else LINE


def at_least(low: float) -> Span:
    """All numbers from `low` on."""
    return Span(low, INF, False, True)


def above(low: float) -> Span:
    """All numbers beyond `low`."""
    return Span(low, INF)


def between(low: float, high: float, *, open: bool = False) -> Span:
    """From `low` to `high`, with both ends or without."""
    return Span(low, high, open, open)


def _span(low: End, high: End) -> Span:
    (a, a_open), (b, b_open) = low, high
    return Span(a, b, a_open or math.isinf(a), b_open or math.isinf(b))


def _ends(span: Span) -> tuple[End, End]:
    return (span.low, span.low_open), (span.high, span.high_open)


def _lows(*spans: Span) -> list[End]:
    return [(s.low, s.low_open) for s in spans]


def _highs(*spans: Span) -> list[End]:
    return [(s.high, s.high_open) for s in spans]


def _least(ends: Iterable[End], every: bool = True) -> End:
    """The least end; of equal ones, left out if `every` one is, or else if any is."""
    found = list(ends)
    value = min(v for v, _ in found)
    flags = [is_open for v, is_open in found if v == value]
    return value, all(flags) if every else any(flags)


def _greatest(ends: Iterable[End], every: bool = True) -> End:
    value, is_open = _least([(-v, is_open) for v, is_open in ends], every)
    return -value, is_open


def _product(a: End, b: End) -> End:
    (x, x_open), (y, y_open) = a, b
    if x == 0 or y == 0:  # 0 * inf is 0: zero times any number that is reached
        return 0.0, not ((x == 0 and not x_open) or (y == 0 and not y_open))
    return x * y, x_open or y_open


def _limit(function: Callable[[float], float], x: float) -> float:
    try:
        return function(x)
    except OverflowError:
        return math.copysign(INF, x)
