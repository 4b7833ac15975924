"""`attngen tune`: what it lists, what it measures, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attngen.autotune import database as db
from attngen.autotune import tune as tuning
from attngen.cli.tuning import table_name
from tests.cli.conftest import Run

SMALL = ("--shape", "1,2,2,70,70,16")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, kernel_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(db, "FOLDER", str(tmp_path / "tuning"))
    monkeypatch.setattr(tuning, "MOST", 2)
    db.forget()
    yield tmp_path
    db.forget()


@pytest.mark.cxx
def test_dry_run_lists_the_space_and_what_is_left_out_and_why(run: Run) -> None:
    result = run("tune", "causal", *SMALL, "--device", "cpu", "--dry-run")
    assert result.exit_code == 0, result.output
    first, *lines = result.output.splitlines()
    assert first.startswith("causal: ")
    assert first.endswith(" cpu forward fp32, D 16, to 128 x 128, visits 1/2")
    assert sum(line.endswith("(built in)") for line in lines) == 1
    left = [line for line in lines if line.startswith("  left out: ")]
    assert all(" is no whole number of panels of " in line for line in left)
    assert lines[-1] == f"  {len(lines) - len(left) - 1} configs, by prediction; {len(left)} are left out"
    backward = run("tune", "causal", *SMALL, "--device", "cpu", "--dry-run", "--backward")
    assert "cpu backward fp32" in backward.output


def test_dry_run_for_a_gpu_that_is_not_here(run: Run) -> None:
    pytest.importorskip("triton")
    result = run("tune", "causal", "--shape", "1,2,2,512,512,64", "--device", "rtx-4090", "--dry-run")
    assert result.exit_code == 0, result.output
    assert " triton forward bf16, D 64" in result.output
    assert "RTX 4090 has no engine for descriptors: they begin with sm_90" in result.output


@pytest.mark.slow
def test_the_static_stage_for_a_gpu_that_is_not_here(run: Run) -> None:
    pytest.importorskip("triton")
    result = run("tune", "causal", "--shape", "1,16,16,4096,4096,64", "--device", "h200", "--budget", "5")
    assert result.exit_code == 0, result.output
    assert "there is no H200 on this machine: the static stage alone" in result.output
    assert "ms predicted  m" in result.output


@pytest.mark.cxx
def test_what_is_recorded_is_tuned(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    import attngen

    calls = place / "calls.jsonl"
    monkeypatch.setenv("ATTNGEN_RECORD", str(calls))
    kernel = attngen.compile(attngen.mechanisms.causal())
    for n in (70, 69, 300):
        kernel(*torch.randn(3, 1, 2, n, 16))
    monkeypatch.delenv("ATTNGEN_RECORD")
    calls.write_text(calls.read_text() + json.dumps({"format": 1}) + "\n")
    tuned: list[Any] = []
    monkeypatch.setattr(tuning, "tune", lambda work, *_: tuned.append(work.sizes) or tuning.static_stage(work))
    result = run("tune", "--from", str(calls))
    # 69 and 70 tokens are of one kind.
    assert tuned == [(1, 2, 70, 70), (1, 2, 300, 300)]
    assert "skipped: line 4 is no call that can be made again" in result.output
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--shape", "1,1,1,8,8,8"), "--shape, --grid, --head-dim: go with a SPEC"),
     (("causal", "--from", "x.jsonl"), "--from: the file says what is called"),
     (("causal", "--device", "h200", "--storage", "sqlite:///x.db"), "there is no H200 on this machine"),
     (("--from", "missing.jsonl"), "missing.jsonl: cannot be read"),
     (("causal", "--device", "tpu"), "--device: got 'tpu'"),
     (("causal", *SMALL, "--backend", "reference", "--device", "cpu"), "the reference backend has nothing to tune")],
)  # fmt: skip
def test_what_is_refused(run: Run, arguments: tuple[str, ...], message: str) -> None:
    result = run("tune", *arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_names_of_gpus() -> None:
    assert [table_name(n) for n in ("h200", "H100", "rtx-4090", "4090", "cpu", "cuda:0", "")] == [
        "H200", "H100", "RTX 4090", "RTX 4090", None, None, None,
    ]  # fmt: skip
