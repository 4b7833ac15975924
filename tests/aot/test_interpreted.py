"""What a launch passes is what the source reads: bundles run under Triton's interpreter, from the parameters alone."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BOUNDS = {"fp32": 1e-5, "bf16": 1e-2}


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_bundles_give_the_right_results() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.aot.worker"],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 5
    for each in found:
        assert "failed" not in each, each["failed"]
        assert each["out"] <= BOUNDS[each["dtype"]], each
        assert each.get("lse", 0.0) <= 1e-5, each
    # An odd width has odd strides.
    assert {tuple(each["variants"]) for each in found} == {("aligned",), ("generic",)}
