"""What rounds of several configs say: times of one round are compared with each other, never with those of another.

A machine changes its clock and has other work to do; what runs side by side sees the same of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import median, quantiles

SURE = 0.95


@dataclass(frozen=True, slots=True)
class Paired:
    """Seconds of a config, their spread (between the fifths), and the paired ratio to another one: the median, and the
    bounds that its true value lies between with 95 % probability, whatever the noise is like."""

    seconds: float
    spread: float
    ratio: float
    low: float
    high: float
    rounds: int


def paired(own: Sequence[float], base: Sequence[float]) -> Paired:
    """The figures of a config beside the base; both have the seconds of the same rounds."""
    ratios = sorted(a / b for a, b in zip(own, base, strict=True))
    low, high = interval(ratios)
    return Paired(median(own), spread(own), median(ratios), low, high, len(ratios))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Order statistics of sorted values that the true median lies between with 95 % probability; the whole range where
    there are too few for that."""
    n = len(values)
    skipped = 0
    outside = 0.0
    # The median is below the value of rank k with the probability that fewer than k of n coins show heads.
    while skipped < (n - 1) // 2:
        outside += comb(n, skipped) / 2**n
        if 2 * outside > 1 - SURE:
            break
        skipped += 1
    first = max(0, skipped - 1)
    return values[first], values[n - 1 - first]


def spread(values: Sequence[float]) -> float:
    """What three fifths of the values lie within."""
    if len(values) < 2:
        return 0.0
    fifths = quantiles(values, n=5, method="inclusive")
    return fifths[3] - fifths[0]
