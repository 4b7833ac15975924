"""ATTNGEN_AUTOTUNE=quick: the first call of its kind is tuned, by one process of all, and never again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import attngen
from attngen import masks
from attngen.autotune import database as db
from attngen.autotune import first_call
from attngen.autotune.identity import device_of, versions
from attngen.autotune.process import Lost
from attngen.runtime.engine import engine
from tests.autotune.samples import sample
from tests.autotune.works import work_of

pytestmark = pytest.mark.cxx
CAUSAL = attngen.Spec(mask=masks.causal())


@pytest.fixture(autouse=True)
def place(tmp_path: Path, kernel_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(db, "FOLDER", str(tmp_path / "tuning"))
    monkeypatch.setattr(first_call, "_tried", set())
    engine.cache_clear()
    db.forget()
    yield tmp_path
    engine.cache_clear()
    db.forget()


class Tuner:
    """In place of `tune`: finds that a larger group is faster."""

    def __init__(self) -> None:
        self.budgets: list[float] = []

    def __call__(self, work: Any, budget: float, most: int) -> None:
        self.budgets.append(budget)
        own = work.target.configs(work.plan)[0]
        device = device_of(work.target)
        assert device is not None
        better = str(own).replace(f" g{own.group}", f" g{own.group + 1}")
        db.add(device, [sample(0.8, better, key=work.key, base=str(own), versions=versions("cpu"))])


def test_one_of_many_tunes_and_all_use_it() -> None:
    tuner, work = Tuner(), work_of(CAUSAL)
    found: list[bool] = []

    def rank() -> None:
        first_call._tried.clear()  # as in a process of its own
        found.append(first_call.tune_first("quick", work_of(CAUSAL), tuner))

    ranks = [threading.Thread(target=rank) for _ in range(4)]
    for each in ranks:
        each.start()
    for each in ranks:
        each.join()
    assert tuner.budgets == [first_call.BUDGETS["quick"]]
    assert any(found)
    assert first_call.tune_first("full", work, tuner) is False


def test_a_kernel_tunes_at_its_first_call_and_uses_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    tuner = Tuner()
    monkeypatch.setattr(first_call.tune_first, "__defaults__", (tuner,))
    q, k, v = torch.randn(3, 1, 2, 45, 16)
    kernel = attngen.compile(CAUSAL, autotune="quick")
    cached = attngen.compile(CAUSAL, autotune="cached")
    own = cached.engine().compiled(q, k, v, [], False).config
    out = kernel(q, k, v)
    kernel(q[:, :, :40], k[:, :, :40], v[:, :, :40])
    assert tuner.budgets == [first_call.BUDGETS["quick"]]
    assert float((out - kernel.reference(q, k, v)).norm() / out.norm()) < 1e-5
    one = kernel.engine()
    used = one.compiled(q, k, v, [], False, situation=one.situation(q, k, v, [])).config
    assert (used.group, used.query_tile) == (own.group + 1, own.query_tile)


@pytest.mark.parametrize("problem", [RuntimeError("it cannot be measured"), Lost("c", "its process ended"), OSError()])
def test_a_call_that_cannot_be_tuned_runs_as_ever(problem: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise problem

    assert first_call.tune_first("quick", work_of(CAUSAL), fail) is True
    assert "was not tuned" in caplog.text
    # It is not tried at every call.
    assert first_call.tune_first("quick", work_of(CAUSAL), fail) is False


def test_other_modes_tune_nothing() -> None:
    tuner = Tuner()
    for mode in ("off", "cached"):
        assert first_call.tune_first(mode, work_of(CAUSAL), tuner) is False  # type: ignore[arg-type]
    assert tuner.budgets == []
