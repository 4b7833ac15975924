"""What a launch passes is what the source reads: bundles run under Triton's interpreter, from the parameters alone,
forward and backward."""

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
def test_bundles_give_the_right_results_and_gradients() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.aot.worker"],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 9
    for each in found:
        assert "failed" not in each, each["failed"]
        assert each["out"] <= BOUNDS[each["dtype"]], each
        assert each.get("lse", 0.0) <= 1e-5, each
        assert max(each["gradients"]) <= BOUNDS[each["dtype"]], each
    used = {each["name"]: dict(each["used"]) for each in found}
    # An odd width has odd strides.
    assert set(used["documents, odd width"].values()) == {"generic"}
    assert set(used["causal, GQA"].values()) == {"aligned"}
    # Nothing is computed for slopes that nobody wants the gradient of.
    roles = ("rows", "queries", "keys")
    assert set(used["alibi, bf16, tokens before heads"]) == {"forward", *(f"backward {role}" for role in roles)}
    assert set(used["learned slopes"]) == {"forward", *(f"backward {role} + slopes" for role in roles)}
