"""Paired ratios, and intervals that hold what they promise."""

from __future__ import annotations

import random

import pytest

from attngen.autotune.paired import interval, paired


def test_a_clock_that_changes_does_not_matter() -> None:
    clocks = [1.0, 1.0, 2.0, 2.0, 1.5, 3.0, 1.0]
    found = paired([0.9 * c for c in clocks], clocks)
    assert found.ratio == pytest.approx(0.9)
    assert (found.low, found.high) == (pytest.approx(0.9), pytest.approx(0.9))
    assert (found.seconds, found.rounds) == (pytest.approx(1.35), 7)
    assert found.spread > 0.3


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_few_values_say_little(n: int) -> None:
    values = [float(i) for i in range(n)]
    assert interval(values) == (0.0, n - 1.0)


@pytest.mark.parametrize("n", [6, 10, 25, 40])
def test_the_median_lies_within(n: int) -> None:
    chance = random.Random(n)
    inside = 0
    for _ in range(4000):
        low, high = interval(sorted(chance.expovariate(1.0) for _ in range(n)))
        inside += low <= 0.6931 <= high
    assert 0.95 - 0.012 <= inside / 4000 <= 0.995
    assert interval([float(i) for i in range(n)])[0] > 0 or n == 6
