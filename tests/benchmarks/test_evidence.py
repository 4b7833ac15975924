"""Rows of the table without a GPU: commands, static evidence, and no figure that nobody measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_row_says_what_is_known(tmp_path: Path) -> None:
    contenders = {"attngen": {"warm": {"median": 2.0}}, "cudnn": {"warm": {"median": 1.5}}}
    results = {"dense causal": {"contenders": contenders}}
    (tmp_path / "table.json").write_text(json.dumps({"results": results}), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "benchmarks.gpu.evidence", "--dry-run", "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, "--only", "causal"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "evidence.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    named = [row for row in rows if row[0] != "| "]
    assert len(named) == 4
    assert all("python -m benchmarks.gpu table --only" in row[1] for row in named)
    measured = {row[0].removeprefix("| "): row[-1].removesuffix(" |") for row in named}
    assert measured.pop("dense causal") == "0.75 x cudnn"
    assert set(measured.values()) == {"not measured"}
    found = json.loads((tmp_path / "evidence.json").read_text(encoding="utf-8"))["rows"]
    assert found["dense causal, backward"]["kernels"].keys() == {"rows", "queries", "keys"}
