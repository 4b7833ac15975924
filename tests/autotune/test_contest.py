"""What has to hold before a config is timed, and that calls are shortened and sent on as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import attngen
from attngen import masks, scores
from attngen.autotune.contest import Contest, Wrong
from attngen.autotune.workload import SHORT, Workload, shortened
from attngen.codegen.backends.cpu.backend import CpuBackend
from attngen.samples import Shape
from tests.autotune.works import work_of

CAUSAL = attngen.Spec(mask=masks.causal())
IDS = torch.arange(140).reshape(2, 70) // 9


def alibi() -> attngen.Spec:
    return attngen.Spec(mask=masks.document(IDS), score=scores.alibi(torch.linspace(0.1, 1, 4)))


SPECS: dict[str, Callable[[], attngen.Spec]] = {"causal": lambda: CAUSAL, "documents": alibi}


@pytest.mark.cxx
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("name", list(SPECS))
def test_right_configs_run_in_turn(name: str, direction: Any) -> None:
    work = work_of(SPECS[name](), direction=direction)
    contest = Contest(work)
    own = (work.target.configs_backward if work.backward else work.target.configs)(work.plan)[0]
    other = replace(own, group=own.group + 1)
    for config in (own, other):
        assert contest.prepare(str(config)) < 1e-5
    tried: list[str] = []
    taken = contest.rounds([str(own), str(other)], 3, tried.append)
    assert tried == [str(c) for c in (own, other, other, own, own, other)]
    assert all(len(seconds) == 3 and min(seconds) > 0 for seconds in taken.values())


@pytest.mark.cxx
@pytest.mark.parametrize("long", [False, True], ids=["everywhere", "in long calls"])
def test_a_wrong_config_is_refused(long: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    work = work_of(CAUSAL, Shape(1, 2, 2, 400, 400, 16, 16))
    own = work.target.configs(work.plan)[0]
    other = replace(own, group=own.group + 1)
    real = CpuBackend.prepare

    def wrong(self: Any, built: Any, plan: Any, call: Any) -> Any:
        launch = real(self, built, plan, call)
        if built.config != other or (long and call.n_q < 400):
            return launch
        return lambda *given: (launch(*given)[0] * 1.001, None, None)

    monkeypatch.setattr(CpuBackend, "prepare", wrong)
    contest = Contest(work)
    contest.prepare(str(own))
    with pytest.raises(Wrong, match=r"its result is off by 1.0e-03 \(allowed: 1.0e-05\)"):
        contest.prepare(str(other))
    assert str(other) not in contest.calls


@pytest.mark.cxx
def test_a_config_with_a_wrong_gradient_of_a_learned_tensor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    work = work_of(alibi(), direction="backward")
    own = work.target.configs_backward(work.plan)[0]
    other = replace(own, group=own.group + 1)
    real = CpuBackend.prepare_backward

    def wrong(self: Any, built: Any, plan: Any, call: Any, wanted: Any) -> Any:
        launch = real(self, built, plan, call, wanted)
        if built.config != other:
            return launch
        return lambda *given: [t if t is None or t.dim() == 4 else t * 1.001 for t in launch(*given)]

    monkeypatch.setattr(CpuBackend, "prepare_backward", wrong)
    contest = Contest(work)
    contest.prepare(str(own))
    with pytest.raises(Wrong, match=r"its result is off by 1.0e-03 \(allowed: 4.0e-05\)"):
        contest.prepare(str(other))


def test_a_long_call_is_shortened_with_its_inputs() -> None:
    bias = torch.zeros(2, 4, 3000)
    spec = attngen.Spec(
        score=lambda score, b, h, kv: score + bias[b, h, kv], mask=masks.lengths(torch.tensor([9, 3000]))
    )
    work = work_of(spec, Shape(2, 4, 2, 2000, 3000, 16, 16))
    short = shortened(work)
    assert short is not None
    assert short.sizes == (1, 4, *SHORT)
    assert [tuple(t.shape) for t in short.operands] == [(1, 4, 301, 16), (1, 2, 331, 16), (1, 2, 331, 16)]
    square = shortened(work_of(CAUSAL, Shape(1, 1, 1, 500, 500, 16, 16)))
    assert square is not None
    assert square.sizes == (1, 1, SHORT[0], SHORT[0])


def test_a_grid_is_not_cut_and_may_be_too_large_for_the_oracle() -> None:
    spec = attngen.Spec(mask=masks.neighborhood((16, 16), 3))
    short = shortened(work_of(spec, Shape(3, 2, 2, 256, 256, 16, 16)))
    assert short is not None
    assert short.sizes == (1, 2, 256, 256)
    large = attngen.Spec(mask=masks.neighborhood((128, 128), 3))
    assert shortened(work_of(large, Shape(1, 1, 1, 16384, 16384, 16, 16))) is None


def test_a_workload_arrives_as_it_was_sent(tmp_path: Path) -> None:
    work = work_of(alibi(), direction="backward")
    work.save(tmp_path / "w")
    there = Workload.load(tmp_path / "w")
    assert (there.spec, there.plan, there.key, there.wanted) == (work.spec, work.plan, work.key, work.wanted)
    assert there.wanted == {"slopes"}
    for one, other in zip((*there.operands, *there.inputs), (*work.operands, *work.inputs), strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()
    assert work.shape == "2,4,2,70,70,16,16"
