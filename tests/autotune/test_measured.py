"""Races against a machine whose noise is known: who is kept, and what a candidate that fails costs."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

import pytest

from attngen.autotune.measured import Progress, Race
from attngen.autotune.process import Lost

BASE = "base"


class Machine:
    """Stands for a worker: configs take their seconds, times noise and a clock that drifts. Nobody waits."""

    def __init__(self, seconds: dict[str, float], noise: float = 0.01, **trouble: str) -> None:
        self.seconds, self.noise, self.trouble = seconds, noise, trouble
        self.chance = random.Random(0)
        self.prepared: set[str] = set()
        self.counts: dict[str, int] = {}
        self.starts = 0

    def prepare(self, text: str) -> dict[str, Any]:
        match self.trouble.get(text):
            case "wrong":
                return {"wrong": "its result is off by 1.0e+00 (allowed: 1.0e-05)"}
            case "crashes":
                raise self.lost(text, "its process ended with SIGSEGV")
        self.prepared.add(text)
        return {"error": 1e-7}

    def rounds(self, texts: Sequence[str], count: int) -> dict[str, list[float]]:
        assert set(texts) <= self.prepared
        for text in texts:
            self.counts[text] = self.counts.get(text, 0) + count
            if self.trouble.get(text) == "hangs":
                raise self.lost(text, "no answer within 60 s")
        taken: dict[str, list[float]] = {text: [] for text in texts}
        for i in range(count):
            clock = 1 + 0.5 * (i % 3)
            for text in texts:
                taken[text].append(clock * self.seconds[text] * self.chance.lognormvariate(0, self.noise))
        return taken

    def lost(self, text: str, reason: str) -> Lost:
        self.prepared.clear()
        self.starts += 1
        return Lost(text, reason)


def race(machine: Any, kept: Sequence[str] = (), seconds: float = 600.0) -> tuple[Race, list[Progress]]:
    told: list[Progress] = []
    return Race(machine, BASE, time.monotonic() + seconds, told.append, kept), told


def spread_out(count: int, fastest: float) -> dict[str, float]:
    return {BASE: 1.0} | {f"c{i}": fastest + 0.05 * i for i in range(count)}


def test_the_fastest_is_kept_and_the_slow_ones_run_little() -> None:
    machine = Machine(spread_out(16, 0.8))
    found, told = race(machine)
    measures = found.run(machine.seconds)
    assert measures.chosen == "c0"
    assert measures.found["c0"].ratio == pytest.approx(0.8, rel=0.02)
    assert measures.found["c0"].low <= 0.8 * 1.01
    assert machine.counts["c15"] < machine.counts["c0"] // 3
    assert len(measures.final) == 3
    assert told[-1].best in ("c0", "c1")


def test_nothing_that_is_only_lucky_takes_the_place_of_the_built_in_one() -> None:
    replaced = 0
    for seed in range(20):
        machine = Machine({BASE: 1.0} | {f"c{i}": 1.0 for i in range(32)}, noise=0.05)
        machine.chance.seed(seed)
        found, _ = race(machine)
        replaced += found.run(machine.seconds).chosen != BASE
    # Of three finalists one passes by chance more often than one candidate would.
    assert replaced <= 3


@pytest.mark.parametrize("trouble", ["wrong", "crashes", "hangs"])
def test_a_candidate_that_fails_costs_only_itself(trouble: str) -> None:
    machine = Machine(spread_out(6, 0.7), c0=trouble)
    found, _ = race(machine)
    measures = found.run(machine.seconds)
    assert measures.chosen == "c1"
    assert set(measures.refused) == {"c0"}
    assert "c0" not in measures.found
    assert set(measures.found) == set(machine.seconds) - {"c0"}
    assert measures.refused["c0"].startswith(("its result is off", "its process ended", "no answer"))


@pytest.mark.parametrize("trouble", ["wrong", "crashes", "hangs"])
def test_without_the_built_in_config_nothing_is_measured(trouble: str) -> None:
    machine = Machine(spread_out(2, 0.7), base=trouble)
    found, _ = race(machine)
    with pytest.raises((RuntimeError, Lost), match=r"cannot be measured|ended with|no answer"):
        found.run(machine.seconds)


def test_what_is_in_use_comes_to_the_final() -> None:
    machine = Machine(spread_out(8, 0.7) | {"used": 0.95})
    found, _ = race(machine, kept=["used"])
    measures = found.run(machine.seconds)
    assert "used" in measures.final
    assert measures.chosen == "c0"


def test_when_the_time_is_over_what_was_measured_stays() -> None:
    machine = Machine(spread_out(4, 0.7))
    found, _ = race(machine, seconds=0.0)
    measures = found.run(machine.seconds)
    assert measures.chosen == BASE
    assert measures.final == ()
