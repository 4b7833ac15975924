"""Tuning of one call: space, static stage, measured stage, database. What was learned is kept, however it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from attngen.autotune import database
from attngen.autotune.builds import build_all
from attngen.autotune.choose import tuned
from attngen.autotune.identity import clock, device_of, versions
from attngen.autotune.measured import Measures, Progress, Race, Tell
from attngen.autotune.model import Ranked, agreement, rank
from attngen.autotune.process import PATIENCE, Worker
from attngen.autotune.sample import Sample, now
from attngen.autotune.spaces import Space, space_of
from attngen.autotune.workload import Workload

MOST = 48
"""Candidates that are built at most, best predicted first."""
BUILDING = 0.4
"""Of the budget."""
log = logging.getLogger("attngen.autotune")


@dataclass(slots=True)
class Outcome:
    """What tuning of a call found. `ranked`: every config with its predicted seconds. `built`: why a candidate was
    dropped before it ran, or None. `measures` is None where nothing was measured."""

    work: Workload
    space: Space
    ranked: list[Ranked]
    built: dict[str, str | None] = field(default_factory=dict)
    measures: Measures | None = None

    @property
    def base(self) -> str:
        return str(self.space.own)

    @property
    def chosen(self) -> str:
        """The config to take: by measurement, where there was one, else the built-in one."""
        return self.base if self.measures is None else self.measures.chosen

    @property
    def agreement(self) -> float | None:
        """The rank correlation of predicted and measured times."""
        if self.measures is None:
            return None
        predicted = {str(each.config): each.seconds for each in self.ranked}
        both = [(predicted[t], m.ratio) for t, m in self.measures.found.items() if t in predicted]
        return agreement([p for p, _ in both], [m for _, m in both])


def silent(progress: Progress) -> None:
    """Tells nobody."""


def static_stage(work: Workload) -> Outcome:
    """The space of a call, ranked by prediction; nothing is built."""
    space = space_of(work.plan, work.target, work.backward, work.gpu)
    return Outcome(work, space, rank(work, space.configs))


def candidates(outcome: Outcome, most: int = MOST) -> list[Any]:
    """The built-in config, then those that should be fastest."""
    ranked = [each.config for each in outcome.ranked if each.config != outcome.space.own]
    return [outcome.space.own, *ranked[: most - 1]]


def build_stage(outcome: Outcome, configs: Sequence[Any], deadline: float, tell: Tell = silent) -> None:
    """Builds candidates, and notes why some are dropped."""
    for config, reason in build_all(outcome.work, configs, deadline):
        outcome.built[str(config)] = reason
        tell(Progress("built", len(outcome.built), len(configs)))


def tune(
    work: Workload,
    budget: float,
    tell: Tell = silent,
    most: int = MOST,
    patience: float = PATIENCE,
) -> Outcome:
    """Tunes a call within `budget` seconds, about, and keeps what was measured in the user's database.

    KeyboardInterrupt comes through after that. Raises `RuntimeError` where the built-in config cannot be measured.
    """
    started = time.monotonic()
    outcome = static_stage(work)
    chosen = candidates(outcome, most)
    build_stage(outcome, chosen, started + BUILDING * budget, tell)
    ready = [str(config) for config in chosen if outcome.built.get(str(config), "not built") is None]
    with Worker(work, patience) as worker:
        race = Race(worker, outcome.base, started + budget, tell, in_use(work))
        outcome.measures = race.measures
        try:
            race.run(ready)
        finally:
            keep(outcome)
    return outcome


def in_use(work: Workload) -> tuple[str, ...]:
    """The config that the database has for a call, which stays unless another one is faster."""
    found = tuned(work.plan, work.target, work.situation, work.direction, "cached")
    return () if found is None else (str(found.config),)


def keep(outcome: Outcome) -> None:
    """Adds everything that was measured to the user's database."""
    measures, work = outcome.measures, outcome.work
    device = device_of(work.target)
    if measures is None or device is None:
        return
    found = list(samples(work, measures))
    if found:
        log.info("%d samples of %s are kept in %s", len(found), work.spec.name, database.add(device, found))


def samples(work: Workload, measures: Measures) -> Sequence[Sample]:
    """The samples of a session; of finalists those of the final."""
    key, date, mhz, built = work.key, now(), clock(), versions(work.backend)
    return [
        Sample(
            key=key,
            config=text,
            base=measures.base,
            median=one.seconds,
            spread=one.spread,
            ratio=one.ratio,
            low=one.low,
            high=one.high,
            rounds=one.rounds,
            name=work.spec.name,
            shape=work.shape,
            clock=mhz,
            date=date,
            versions=built,
        )
        for text, one in measures.found.items()
        if one.rounds > 1
    ]
