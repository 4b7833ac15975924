"""Studies that processes share: what one has tried, all know. The machine is a pretended one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import attngen
from attngen import masks
from attngen.autotune import search as module
from attngen.autotune.measured import Race
from attngen.autotune.tune import Outcome, silent, static_stage
from attngen.errors import InputError
from tests.autotune.test_measured import Machine
from tests.autotune.works import work_of

optuna = pytest.importorskip("optuna")


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return static_stage(work_of(attngen.Spec(mask=masks.causal())))


def seconds(outcome: Outcome) -> dict[str, float]:
    """Large groups are fast, and nothing else matters."""
    return {str(config): 1.0 + 1.0 / config.group for config in outcome.space.configs}


def trials(outcome: Outcome, url: str, machine: Any, most: float) -> tuple[Any, Race]:
    study = module._study(outcome, url)
    race = Race(machine, outcome.base, time.monotonic() + 60, silent)
    race.prepare(())
    module._trials(study, outcome, race, time.monotonic() + most, silent)
    return study, race


def test_two_share_a_study(outcome: Outcome, tmp_path: Path) -> None:
    url = f"journal://{tmp_path}/study.log"
    wrong = next(str(c) for c in outcome.space.configs if c != outcome.space.own)
    one = Machine(seconds(outcome), noise=0.001, **{wrong: "wrong"})
    study, first = trials(outcome, url, one, 1.0)
    done = [trial.state.name for trial in study.get_trials()]
    assert done.count("COMPLETE") > 2
    other = Machine(seconds(outcome), noise=0.001)
    study, second = trials(outcome, url, other, 1.0)
    states = [trial.state.name for trial in study.get_trials()]
    assert states.count("COMPLETE") > done.count("COMPLETE")
    best = outcome.space.by_choices()[tuple(study.best_trial.params.values())]
    tried = {*first.measures.found, *second.measures.found}
    known = seconds(outcome)
    assert known[str(best)] == pytest.approx(min(known[text] for text in tried), rel=0.01)
    assert wrong not in first.measures.found
    # What another process found comes to the final of this one.
    module._take_best(study, outcome, second)
    second.final()
    assert str(best) in second.measures.final or best == outcome.space.own


def test_the_first_configs_are_those_of_the_static_stage(outcome: Outcome, tmp_path: Path) -> None:
    study = module._study(outcome, f"journal://{tmp_path}/study.log")
    again = module._study(outcome, f"journal://{tmp_path}/study.log")
    waiting = [trial.system_attrs["fixed_params"] for trial in again.get_trials()]
    assert len(waiting) == len(study.get_trials()) == module.FIRST
    assert outcome.space.by_choices()[tuple(waiting[0].values())] == outcome.space.own


def test_a_storage_that_cannot_be_opened(outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    with pytest.raises(InputError, match="--storage: 'nonsense' cannot be opened"):
        module._study(outcome, "nonsense")
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(InputError, match=r"--storage: needs optuna; pip install 'attngen\[tune\]'"):
        module._study(outcome, "nonsense")
