"""Interleaved measurement: every round runs each contender once, bracketed by the machine's peak rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles

QUIET = 0.9
"""A round counts where the peak before and after it is at least this share of the best peak of the run."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds of one contender over the rounds that counted."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison; `quiet` of `rounds` counted. Fewer than half: the machine was busy, nothing is concluded."""

    samples: Mapping[str, Sample]
    peak: float
    rounds: int
    quiet: int

    @property
    def conclusive(self) -> bool:
        return 2 * self.quiet >= self.rounds


def interleave(contenders: Mapping[str, Callable[[], object]], peak: Callable[[], float], rounds: int) -> Row:
    """Runs the contenders in turn, after one call of each that is not counted."""
    for run in contenders.values():
        run()
    taken: list[tuple[float, float, dict[str, float]]] = []
    before = peak()
    for i in range(rounds):
        times: dict[str, float] = {}
        names = list(contenders)
        for name in names[i % len(names) :] + names[: i % len(names)]:
            start = time.perf_counter()
            contenders[name]()
            times[name] = time.perf_counter() - start
        after = peak()
        taken.append((before, after, times))
        before = after
    best = max(max(a, b) for a, b, _ in taken)
    quiet = [times for a, b, times in taken if min(a, b) >= QUIET * best]
    counted = quiet or [times for _, _, times in taken]
    samples = {name: _sample([times[name] for times in counted]) for name in contenders}
    return Row(samples, best, rounds, len(quiet))


def _sample(values: list[float]) -> Sample:
    if len(values) < 4:
        return Sample(median(values), min(values), max(values))
    low, _, high = quantiles(values, n=4)
    return Sample(median(values), low, high)
