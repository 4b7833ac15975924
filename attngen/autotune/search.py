"""A search of large spaces with optuna: ask for a config, measure it, tell. Who shares its storage shares the study.

A study belongs to one call on one device with one compiler; its trials are ratios to the built-in config, which every
process measures for itself beside each candidate.
"""

from __future__ import annotations

import logging
import random
import time
import warnings
from hashlib import sha256
from typing import Any

from attngen.autotune.identity import device_of, versions
from attngen.autotune.measured import Progress, Race, Tell
from attngen.autotune.process import PATIENCE, Worker
from attngen.autotune.tune import Outcome, candidates, in_use, keep, silent, static_stage
from attngen.autotune.workload import Workload
from attngen.errors import InputError

FILE = "journal://"
"""How the URL of a plain file of optuna's begins; others are those of databases, such as sqlite:///tuning.db."""
FIRST = 8
"""Configs of the static stage that a study begins with."""
ROUNDS = 5
SHARE = 0.75
"""Of the budget for the search; the final has the rest."""
ATTEMPTS = 8
"""To open a storage."""
MISSES = 2000
"""Suggestions without a new config after which the space counts as searched."""


def search(work: Workload, budget: float, storage: str, tell: Tell = silent, patience: float = PATIENCE) -> Outcome:
    """Searches the space of a call for `budget` seconds, about; keeps what this process measured in the database.

    Raises `InputError` where optuna is missing or the storage cannot be opened.
    """
    started = time.monotonic()
    outcome = static_stage(work)
    study = _study(outcome, storage)
    with Worker(work, patience) as worker:
        race = Race(worker, outcome.base, started + budget, tell, in_use(work))
        outcome.measures = race.measures
        try:
            race.prepare((), share=SHARE)
            _trials(study, outcome, race, started + SHARE * budget, tell)
            _take_best(study, outcome, race)
            race.final()
        finally:
            keep(outcome)
    return outcome


def _study(outcome: Outcome, storage: str) -> Any:
    try:
        import optuna
    except ImportError:
        raise InputError("--storage: needs optuna; pip install 'attngen[tune]'") from None
    optuna.logging.set_verbosity(logging.ERROR)
    work = outcome.work
    name = repr((work.key, outcome.base, device_of(work.target), sorted(versions(work.backend).items())))
    title = f"attngen {work.spec.name} {sha256(name.encode()).hexdigest()[:16]}"
    study = _opened(optuna, storage, title)
    known = {config: values for values, config in outcome.space.by_choices().items()}
    for config in candidates(outcome, FIRST):
        study.enqueue_trial(_parameters(known[config]), skip_if_exists=True)
    return study


def _opened(optuna: Any, storage: str, title: str) -> Any:
    """The study in a storage; who comes while another process sets the storage up tries again."""
    for left in reversed(range(ATTEMPTS)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                sampler = optuna.samplers.TPESampler(constant_liar=True, multivariate=True)
                return optuna.create_study(
                    storage=_storage(storage), study_name=title, sampler=sampler, load_if_exists=True
                )
        except Exception as problem:
            if not left:
                reason = str(problem).partition("\n")[0]
                raise InputError(f"--storage: {storage!r} cannot be opened: {reason}") from problem
        time.sleep(0.2 + 0.3 * random.random())
    raise AssertionError


def _storage(url: str) -> Any:
    if not url.startswith(FILE):
        return url
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(url.removeprefix(FILE)))


def _parameters(values: tuple[str, ...]) -> dict[str, str]:
    return {f"part {i}": value for i, value in enumerate(values)}


def _trials(study: Any, outcome: Outcome, race: Race, deadline: float, tell: Tell) -> None:
    from optuna.trial import TrialState

    columns, known = outcome.space.choices(), outcome.space.by_choices()
    tried: dict[str, float | None] = {}
    misses = 0
    while time.monotonic() < deadline and len(tried) < len(known) and misses < MISSES:
        trial = study.ask()
        values = tuple(trial.suggest_categorical(f"part {i}", column) for i, column in enumerate(columns))
        config = known.get(values)
        if config is None or str(config) in tried:
            misses += 1
            earlier = None if config is None else tried[str(config)]
            state = TrialState.PRUNED if earlier is None else TrialState.COMPLETE
            study.tell(trial, earlier, state, skip_if_finished=True)
            continue
        text = str(config)
        tried[text] = _ratio(race, text, deadline - time.monotonic())
        state = TrialState.FAIL if tried[text] is None else TrialState.COMPLETE
        # Two processes may have been given the same of the first configs.
        study.tell(trial, tried[text], state, skip_if_finished=True)
        everyone = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        best = min(race.measures.found, key=lambda text: race.measures.found[text].ratio, default="")
        ratio = race.measures.found[best].ratio if best else 1.0
        tell(Progress("trials of all processes", everyone, 0, best, ratio))


def _take_best(study: Any, outcome: Outcome, race: Race) -> None:
    """The best config of all processes meets those of this one in the final."""
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best = min(complete, key=lambda trial: trial.value, default=None)
    if best is None:
        return
    config = outcome.space.by_choices().get(tuple(best.params.values()))
    if config is not None and config != outcome.space.own and race.offer(str(config)):
        race.kept = (*race.kept, str(config))


def _ratio(race: Race, text: str, seconds: float) -> float | None:
    """The time of a config beside the built-in one; None where it does not run, or is wrong."""
    if text == race.measures.base:
        return 1.0
    if not race.offer(text):
        return None
    race.rounds([text], ROUNDS, max(seconds, 0.0))
    one = race.measures.found.get(text)
    return None if one is None else one.ratio
