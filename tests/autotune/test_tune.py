"""Tuning as a whole, with a worker of its own: stages, samples, and what stays of them when it is cut short."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import attngen
from attngen import masks
from attngen.autotune import database as db
from attngen.autotune import tune as tuning
from attngen.autotune.measured import Progress
from attngen.autotune.model import agreement
from attngen.autotune.tune import candidates, static_stage, tune
from attngen.samples import Shape
from tests.autotune.works import work_of

CAUSAL = attngen.Spec(mask=masks.causal())
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, kernel_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Samples of its own beside the kernels of all tests."""
    monkeypatch.setattr(db, "FOLDER", str(tmp_path / "tuning"))
    db.forget()
    yield tmp_path
    db.forget()


@pytest.mark.cxx
def test_a_call_is_tuned_and_what_was_learned_is_kept() -> None:
    told: list[Progress] = []
    work = work_of(CAUSAL)
    outcome = tune(work, 60.0, told.append, most=3)
    assert outcome.measures is not None
    assert len(outcome.measures.found) == 3
    assert not outcome.measures.refused
    assert {progress.stage for progress in told} >= {"built", "checked"}
    assert outcome.chosen in outcome.measures.found
    (table,) = db.every_table()[-1:]
    assert {sample.config for sample in table.samples} == set(outcome.measures.found)
    one = table.samples[0]
    assert (one.key, one.base, one.name, one.shape) == (work.key, outcome.base, "causal", "2,4,2,70,70,16,16")
    assert one.versions["compiler"]


@pytest.mark.cxx
def test_an_interrupt_comes_through_and_what_was_measured_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    from attngen.autotune.measured import Race
    from attngen.autotune.paired import paired

    def interrupted(self: Race, configs: Any) -> Any:
        self.measures.found["avx2 q48 k64 g8 qk6x2 pv6x2"] = paired([1.0, 1.0], [2.0, 2.0])
        raise KeyboardInterrupt

    monkeypatch.setattr(Race, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(work_of(CAUSAL), 1.0, most=1)
    (table,) = db.every_table()[-1:]
    assert [sample.ratio for sample in table.samples] == [0.5]


def test_the_static_stage_knows_this_mask() -> None:
    long = Shape(1, 4, 4, 4096, 4096, 64, 64)
    full, window = (
        static_stage(work_of(spec, long)) for spec in (attngen.Spec(), attngen.Spec(mask=masks.sliding_window(64)))
    )
    # A window of 64: small tiles visit less of what nobody sees.
    tiles = [
        {each.config.query_tile: each.seconds for each in reversed(outcome.ranked) if each.config.key_tile == 192}
        for outcome in (full, window)
    ]
    assert tiles[1][96] / tiles[1][24] > tiles[0][96] / tiles[0][24]
    assert window.ranked[0].seconds < full.ranked[0].seconds / 4
    assert candidates(window, 5)[0] == window.space.own
    assert len({str(config) for config in candidates(window, 5)}) == 5
    assert window.agreement is None
    assert window.chosen == window.base


def test_rank_correlation() -> None:
    assert agreement([1, 2, 3, 4], [10, 20, 30, 400]) == pytest.approx(1.0)
    assert agreement([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1.0)
    assert agreement([1, 2, 2, 3], [1, 5, 5, 9]) == pytest.approx(1.0)
    assert agreement([1, 1, 1], [1, 2, 3]) is None
    assert agreement([1, 2], [1, 2]) is None


def test_a_gpu_that_is_not_here_has_a_static_stage() -> None:
    pytest.importorskip("triton")
    work = work_of(attngen.Spec(mask=masks.causal()), Shape(1, 16, 16, 8192, 8192, 128, 128), "bf16", gpu="H200")
    outcome = static_stage(work)
    assert work.key.head.backend == "triton"
    assert len(outcome.space.configs) > 40
    assert 0 < outcome.ranked[0].seconds < outcome.ranked[-1].seconds
    # 275 GFLOP at 989 TFLOP/s, and no good kernel needs five times as long.
    assert 2.78e-4 < outcome.ranked[0].seconds < 5 * 2.78e-4


STUDY = """
import sys
import attngen
from attngen import masks
from attngen.autotune import database
from attngen.autotune.search import search
from tests.autotune.works import work_of
database.FOLDER = sys.argv[2]
outcome = search(work_of(attngen.Spec(mask=masks.causal())), 45.0, sys.argv[1])
print(len(outcome.measures.found))
"""


@pytest.mark.cxx
@pytest.mark.slow
@pytest.mark.parametrize("url", ["sqlite:///{}/study.db", "journal://{}/study.log"])
def test_two_processes_search_together(tmp_path: Path, url: str) -> None:
    import optuna

    storage = url.format(tmp_path)
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", STUDY, storage, str(tmp_path / "tuning")]
    both = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    measured = [int(process.communicate()[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert min(measured) > 1
    from attngen.autotune.search import _storage

    study = optuna.load_study(study_name=None, storage=_storage(storage))
    states = [trial.state.name for trial in study.get_trials()]
    # One study holds the trials of both.
    assert states.count("COMPLETE") >= sum(measured) - 2
    (table,) = db.every_table()[-1:]
    assert len({sample.config for sample in table.samples}) > 2
    assert tuning.in_use(work_of(CAUSAL)) is not None
