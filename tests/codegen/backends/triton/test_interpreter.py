"""Kernels in Triton against the reference, run by Triton's interpreter: results and gradients."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.codegen.backends.triton.cases import CASES
from tests.end_to_end.oracle import BOUND, LSE_BOUND

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
ROOT = Path(__file__).parents[4]
Ask = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Has a case run by the worker, once."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.codegen.backends.triton.worker"]
    with subprocess.Popen(
        command, env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        to, back = worker.stdin, worker.stdout
        assert to is not None
        assert back is not None

        @cache
        def asked(name: str) -> dict[str, Any]:
            print(name, file=to, flush=True)
            found: dict[str, Any] = json.loads(back.readline())
            assert found["name"] == name
            return found

        yield asked
        to.close()


CHOSEN = [
    f"{name}|{choices}"
    for name in ("batches, GQA, wide values", "window", "documents", "rows without keys", "bf16")
    for choices in ("loads=descriptor", "loops=one,loads=descriptor")
]


@pytest.mark.parametrize("name", [*CASES, *CHOSEN])
def test_against_the_reference(name: str, ask: Ask) -> None:
    found, case = ask(name), CASES[name.partition("|")[0]]
    assert "failed" not in found, found["failed"]
    assert found["dtype"] == str(case.dtype)
    assert found["finite"]
    assert found["out"] <= BOUND[case.dtype]
    assert found.get("lse", 0.0) <= LSE_BOUND[torch.float32]
    if case.learned is None:
        return
    assert found["shapes"]
    assert found.get("same again", True), "gradients differ between two runs"
    assert max(found["gradients"]) <= BOUND[case.dtype], found["gradients"]
