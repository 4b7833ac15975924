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
            out, lse = launch(*arguments)
            return out + 0.01, lse

        return off

    monkeypatch.setattr(reference.ReferenceBackend, "prepare", wrong)
    # A spec of its own: engines keep the launches of other tests.
    result = run("verify", "sliding_window:window=2", "--quick", "--backend", "reference", "--shape", "1,1,1,7,7,4")
    assert result.exit_code == 1
    failed = [line.split()[1] for line in result.output.splitlines() if line.startswith("FAILED")]
    assert "values" in failed
    assert "rows" in failed
