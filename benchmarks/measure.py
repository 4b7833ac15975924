"""Interleaved measurement: every round runs each contender once, between two looks at the rate of the machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles

from benchmarks.peak import Peak

QUIET = 0.9
"""A run counts where the rate before and after it is at least this share of the peak."""

BUSY = "busy machine: no conclusion"


def remark(quiet: bool) -> str:
    """What follows a figure that has no column for it."""
    return "" if quiet else f"; {BUSY}"


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds of one contender over the rounds that counted."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison; of every contender at least `quiet` of `rounds` runs counted. Fewer than half: the machine was
    busy, nothing is concluded."""

    samples: Mapping[str, Sample]
    peak: float
    rounds: int
    quiet: int

    @property
    def conclusive(self) -> bool:
        return 2 * self.quiet >= self.rounds

    def verdict(self, met: bool | None) -> str:
        """Whether a target is met, as tables show it; None where there is none."""
        if not self.conclusive:
            return BUSY
        return "" if met is None else "yes" if met else "no"


def interleave(contenders: Mapping[str, Callable[[], object]], peak: Peak, dtype: str, rounds: int) -> Row:
    """Runs the contenders in turn, after one call of each that is not counted; `dtype` names the rate to look at."""
    for run in contenders.values():
        run()
    names = list(contenders)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    before = peak.measure(dtype)
    for i in range(rounds):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            contenders[name]()
            seconds = time.perf_counter() - start
            after = peak.measure(dtype)
            taken[name].append((min(before, after), seconds))
            before = after
    enough = QUIET * peak.best[dtype]
    quiet = {name: [seconds for rate, seconds in runs if rate >= enough] for name, runs in taken.items()}
    samples = {name: _sample(quiet[name] or [seconds for _, seconds in taken[name]]) for name in names}
    return Row(samples, peak.best[dtype], rounds, min(map(len, quiet.values())))


def _sample(values: list[float]) -> Sample:
    if len(values) < 4:
        return Sample(median(values), min(values), max(values))
    low, _, high = quantiles(values, n=4)
    return Sample(median(values), low, high)
