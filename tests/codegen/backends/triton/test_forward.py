"""Forward kernels in Triton against the reference, run by Triton's interpreter."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.codegen.backends.triton.cases import CASES
from tests.end_to_end.oracle import BOUND, LSE_BOUND

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
ROOT = Path(__file__).parents[4]


@cache
def results() -> dict[str, dict[str, Any]]:
    """What the worker says of every case."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.codegen.backends.triton.worker", *CASES]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {found["name"]: found for found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", CASES)
def test_against_the_reference(name: str) -> None:
    found, case = results()[name], CASES[name]
    assert "failed" not in found, found["failed"]
    assert found["dtype"] == str(case.dtype)
    assert found["finite"]
    assert found["out"] <= BOUND[case.dtype]
    assert found.get("lse", 0.0) <= LSE_BOUND[torch.float32]
