from __future__ import annotations

from typing import Any

import pytest

from attngen.codegen.backends import reference
from tests.cli.conftest import Run


def test_a_sound_spec(run: Run) -> None:
    result = run("verify", "causal", "--quick", "--backend", "reference", "--shape", "1,2,1,9,9,4")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert all(line.startswith(("ok", "skipped")) for line in lines[:-1])
    assert lines[-1].startswith("causal on reference: ")
    assert "skipped torch.compile           left out by --quick" in lines


def test_a_wrong_kernel_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    right = reference.ReferenceBackend.prepare

    def wrong(self: Any, built: None, plan: Any, call: Any) -> Any:
        launch = right(self, built, plan, call)

        def off(*arguments: Any) -> Any:
            out, *rest = launch(*arguments)
            return (out + 0.01, *rest)

        return off

    monkeypatch.setattr(reference.ReferenceBackend, "prepare", wrong)
    # A spec of its own: engines keep the launches of other tests.
    result = run("verify", "sliding_window:window=2", "--quick", "--backend", "reference", "--shape", "1,1,1,7,7,4")
    assert result.exit_code == 1
    failed = [line.split()[1] for line in result.output.splitlines() if line.startswith("FAILED")]
    assert "values" in failed
    assert "rows" in failed


NUMERICS = ("--numerics", "--quick", "--backend", "reference", "--dtype", "fp32")


def test_numerics_of_a_user_file(run: Run, user_file: str) -> None:
    result = run("verify", f"{user_file}:alibi", *NUMERICS, "--shape", "1,2,1,9,9,8")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith("causal_alibi on reference, fp32: relative error")
    assert lines[1].split() == [
        "inputs",
        "of",
        "kernel",
        "dense",
        "torch",
        "allowed",
        "largest",
        "of",
        "dense",
        "torch",
    ]
    assert [line.split()[:3] for line in lines if line.startswith("ok      ")][:2] == [
        ["ok", "fp32", "normal"],
        ["ok", "fp32", "large"],
    ]
    assert any(line.startswith("huge scores      O ") for line in lines)
    assert "biased rounding" not in result.output  # an experiment in bf16
    assert lines[-1] == "causal_alibi on reference: 9 ok"


def test_the_experiment_of_biased_rounding(run: Run) -> None:
    result = run("verify", "causal", *NUMERICS[:-1], "bf16", "--shape", "1,1,1,7,7,8")
    assert result.exit_code == 0, result.output
    assert "biased rounding of bf16 (arXiv 2510.04212)" in result.output
    assert "ok      bias of delta" in result.output


def test_a_violation_of_the_bounds_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    right = reference.ReferenceBackend.prepare

    def wrong(self: Any, *arguments: Any) -> Any:
        launch = right(self, *arguments)

        def off(*given: Any) -> Any:
            out, *rest = launch(*given)
            return (out * (1 + 2e-5), *rest)

        return off

    monkeypatch.setattr(reference.ReferenceBackend, "prepare", wrong)
    # A spec of its own: engines keep the launches of other tests.
    result = run("verify", "chunked:size=3", *NUMERICS, "--shape", "1,1,1,7,7,4")
    assert result.exit_code == 1
    failed = [line for line in result.output.splitlines() if line.startswith("FAILED")]
    assert failed[0].startswith("FAILED  fp32 normal             1,1,1,7,7,4: O 2.0e-05 of ")


def test_dtype_goes_with_numerics(run: Run) -> None:
    result = run("verify", "causal", "--dtype", "bf16")
    assert result.exit_code == 2
    assert "--dtype: goes with --numerics" in result.output
    result = run("verify", "causal", "--numerics", "--dtype", "fp64")
    assert result.exit_code == 2
    assert "--dtype: got 'fp64'; allowed: fp32, bf16, fp16" in result.output


def test_help_tells_of_numerics(run: Run) -> None:
    page = " ".join(run("verify", "--help").output.split())
    assert "--numerics" in page
    assert "biased rounding of bf16" in page
