from __future__ import annotations

import pytest

from tests.cli.conftest import Run


def test_everything_is_listed_with_a_line(run: Run) -> None:
    result = run("list")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    for kind in ("mechanisms", "masks", "scores", "normalizers", "weights"):
        assert kind in lines
    assert "  sliding_window(window)" in lines
    assert lines[lines.index("  causal(align='top_left')") + 1].startswith("      ")
    entries = [i for i, line in enumerate(lines) if line.startswith("  ") and not line.startswith("      ")]
    assert len(entries) > 35
    assert all(lines[i + 1].strip() for i in entries)


def test_one_kind(run: Run) -> None:
    output = run("list", "scores").output
    assert output.splitlines()[0] == "scores"
    assert "alibi(slopes)" in output
    assert "sigmoid" not in output


@pytest.mark.parametrize("helper", ["streaming", "named", "Mask", "build"])
def test_helpers_are_not_listed(run: Run, helper: str) -> None:
    assert f"  {helper}(" not in run("list").output


def test_a_typo(run: Run) -> None:
    result = run("list", "maks")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: KIND: got 'maks'; allowed: mechanisms, masks, scores, normalizers, weights (did you mean 'masks'?)\n"
    )
