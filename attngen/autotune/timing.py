"""Times on the device: contenders take turns, with a warm and with a cold second-level cache.

A GPU lowers its clocks under load, so what is compared is never measured one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, Protocol

Call = Callable[[], object]
HOLD = 2_000_000
"""Cycles, about a millisecond, that the device waits before a timed call: meanwhile the host queues the call."""
LEAST, MOST = 5, 30
"""Rounds of a comparison."""


class Timer(Protocol):
    def seconds(self, call: Call, cold: bool) -> float:
        """The time of a call, with what it reads in the cache or not."""
        ...


class DeviceTimer:
    """CUDA events."""

    def __init__(self) -> None:
        import torch

        cache = torch.cuda.get_device_properties().L2_cache_size
        self.flushed = torch.empty(max(4 * cache, 256 << 20), dtype=torch.uint8, device="cuda")

    def seconds(self, call: Call, cold: bool) -> float:
        import torch

        event: Any = torch.cuda.Event
        start, end = (event(enable_timing=True) for _ in range(2))
        if cold:
            self.flushed.zero_()
        else:
            call()
        hold: Any = torch.cuda._sleep
        hold(HOLD)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end)) / 1e3


class WallTimer:
    """The clock on the wall, for what runs on the CPU. It has no way to empty the caches: a cold call is one without a
    call before it. Of a device, which goes on after the call, its numbers say nothing."""

    def seconds(self, call: Call, cold: bool) -> float:
        if not cold:
            call()
        start = time.perf_counter()
        call()
        return time.perf_counter() - start


def timer(device: str) -> Timer:
    """The timer of a device type."""
    return DeviceTimer() if device == "cuda" else WallTimer()


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds over the rounds: the median, and the bounds that three fifths of them lie within."""

    median: float
    p20: float
    p80: float

    @classmethod
    def of(cls, values: list[float]) -> Sample:
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        fifths = quantiles(values, n=5, method="inclusive")
        return cls(median(values), fifths[0], fifths[3])


@dataclass(frozen=True, slots=True)
class Times:
    """What a comparison found of one contender."""

    warm: Sample
    cold: Sample
    rounds: int


def interleave(calls: Mapping[str, Call], clock: Timer, limit: float, least: int = LEAST) -> dict[str, Times]:
    """Runs the contenders in turn, each first in some rounds; as many rounds as `limit` seconds have room for."""
    names = list(calls)
    if not names:
        return {}
    rounds = least
    if limit:
        # A round has three calls of each: one to warm the cache, and the two that are timed.
        first = 3 * sum(clock.seconds(call, False) for call in calls.values())
        rounds = max(least, min(MOST, int(limit / max(first, 1e-9))))
    taken: dict[tuple[str, bool], list[float]] = {(name, cold): [] for name in names for cold in (False, True)}
    for i in range(rounds):
        start = i % len(names)
        for name in names[start:] + names[:start]:
            for cold in (False, True):
                taken[name, cold].append(clock.seconds(calls[name], cold))
    return {name: Times(Sample.of(taken[name, False]), Sample.of(taken[name, True]), rounds) for name in names}


def figures(times: Times) -> dict[str, Any]:
    """Milliseconds, ready for JSON."""
    parts = {"warm": times.warm, "cold": times.cold}
    found: dict[str, Any] = {
        name: {"median": 1e3 * s.median, "p20": 1e3 * s.p20, "p80": 1e3 * s.p80} for name, s in parts.items()
    }
    return found | {"rounds": times.rounds}
