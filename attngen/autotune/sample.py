"""One measurement, and its line in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from attngen.autotune.key import Head, Key, Sizes

NUMBERS = ("d", "dv", "group")
DIRECTIONS = ("forward", "backward")


class Unreadable(Exception):
    """A line that is no sample; the text says why."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a config took, beside another one that ran in turn with it.

    `median` and `spread` are seconds of a call: the spread is between the fifths of the rounds. `ratio` is the paired
    median of its time over that of `base` in the same round, which lies between `low` and `high` (95 %). `name` and
    `shape` (that of the call) are for people. `clock` is in MHz, None where nothing tells. `versions`: what built it.
    """

    key: Key
    config: str
    base: str
    median: float
    spread: float
    ratio: float
    low: float
    high: float
    rounds: int
    name: str = ""
    shape: str = ""
    clock: float | None = None
    date: str = ""
    versions: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def when(self) -> datetime:
        """The date as a time."""
        return datetime.fromisoformat(self.date)


def now() -> str:
    """The date of a sample that is taken now."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def line(sample: Sample) -> str:
    """The sample as one line of JSON, in the order in which people read it."""
    head, sizes = sample.key.head, sample.key.sizes
    body: dict[str, Any] = {
        "name": sample.name,
        **head._asdict(),
        **sizes._asdict(),
        "config": sample.config,
        "base": sample.base,
        "ratio": _rounded(sample.ratio),
        "low": _rounded(sample.low),
        "high": _rounded(sample.high),
        "median": _rounded(sample.median),
        "spread": _rounded(sample.spread),
        "rounds": sample.rounds,
        "shape": sample.shape,
        "clock": sample.clock,
        "date": sample.date,
        "versions": dict(sorted(sample.versions.items())),
    }
    return json.dumps(body, allow_nan=False)


def read(text: str) -> Sample:
    """The sample of a line. Raises `Unreadable`."""
    try:
        body = json.loads(text)
        head = Head(*(_typed(body[name], int if name in NUMBERS else str) for name in Head._fields))
        sizes = Sizes(*(_typed(body[name], int) for name in Sizes._fields))
        numbers: dict[str, Any] = {name: float(body[name]) for name in ("median", "spread", "ratio", "low", "high")}
        clock = None if body["clock"] is None else float(body["clock"])
        words = {name: _typed(body[name], str) for name in ("config", "base", "name", "shape", "date")}
        versions = {str(name): str(value) for name, value in dict(body["versions"]).items()}
        found = Sample(Key(head, sizes), rounds=int(body["rounds"]), clock=clock, versions=versions, **words, **numbers)
        _check(found)
    except Unreadable:
        raise
    except KeyError as problem:
        raise Unreadable(f"it has no {problem}") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as problem:
        raise Unreadable(f"it cannot be read: {problem}") from None
    return found


def _typed(value: Any, expected: type) -> Any:
    if type(value) is not expected:
        raise Unreadable(f"{value!r} is not of type {expected.__name__}")
    return value


def _check(sample: Sample) -> None:
    numbers = (sample.median, sample.ratio, sample.low, sample.high)
    if not all(isfinite(number) and number > 0 for number in numbers) or not 0 <= sample.spread < float("inf"):
        raise Unreadable("a time or a ratio is not above 0")
    if sample.key.head.direction not in DIRECTIONS:
        raise Unreadable(f"direction {sample.key.head.direction!r}; allowed: {', '.join(DIRECTIONS)}")
    if sample.when.tzinfo is None:
        raise Unreadable(f"the date {sample.date!r} has no time zone")


def _rounded(number: float) -> float:
    return float(f"{number:.5g}")
