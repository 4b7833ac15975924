"""Calls of one attention in turn: times, and paired ratios to the first of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from attngen.autotune.paired import Paired, paired
from attngen.autotune.timing import Timer, timer

LEAST, MOST = 5, 50
"""Rounds."""
ALLOWED = {"float32": 1e-4, "bfloat16": 2e-2, "float16": 5e-3, "float64": 1e-10}
"""How far results may be apart, relative Frobenius: two libraries round differently."""


@dataclass(frozen=True, slots=True)
class Result:
    """The figures of each call beside the first one, and why others have none."""

    found: dict[str, Paired]
    refused: dict[str, str]


def race(calls: Mapping[str, Callable[[], Any]], device: str, seconds: float) -> Result:
    """Runs the calls in turn for so long, about. One that disagrees with the first is not timed: times of different
    things are not compared."""
    clock: Timer = timer(device.partition(":")[0])
    first = next(iter(calls))
    wanted, refused, ready = calls[first](), {}, [first]
    for name, call in list(calls.items())[1:]:
        try:
            reason = _apart(call(), wanted)
        except Exception as problem:  # of another library: whatever it is, it is its own
            reason = f"{type(problem).__name__}: {str(problem).partition(chr(10))[0][:200]}"
        if reason is None:
            ready.append(name)
        else:
            refused[name] = reason
    taken: dict[str, list[float]] = {name: [] for name in ready}
    end, done = monotonic() + seconds, 0
    while done < LEAST or (done < MOST and monotonic() < end):
        begin = done % len(ready)
        for name in (*ready[begin:], *ready[:begin]):
            taken[name].append(clock.seconds(calls[name], False))
        done += 1
    return Result({name: paired(taken[name], taken[first]) for name in ready}, refused)


def _apart(found: Any, wanted: Any) -> str | None:
    a, b = found.detach().double(), wanted.detach().double()
    if a.shape != b.shape:
        return f"its result has the shape {tuple(a.shape)}, and {tuple(b.shape)} is wanted"
    distance = float((a - b).norm() / b.norm().clamp_min(1e-300))
    allowed = ALLOWED[str(wanted.dtype).removeprefix("torch.")]
    return None if distance <= allowed else f"its result is off by {distance:.1e}: it is not timed"
