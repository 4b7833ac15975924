"""Kernels in Triton against the reference, run by Triton's interpreter: results and gradients."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import cache

import pytest
import torch

from tests.codegen.backends.triton.asking import ROOT, Ask, worker
from tests.codegen.backends.triton.cases import CASES
from tests.end_to_end.oracle import BOUND, LSE_BOUND
from tests.kinds import some

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Has a case run by the worker, once."""
    variables = {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with worker("tests.codegen.backends.triton.worker", variables) as asked:
        yield cache(asked)


CHOSEN = [
    pytest.param(f"{name}|{choices}", marks=() if i % 2 == j else pytest.mark.slow)
    for i, name in enumerate(("batches, GQA, wide values", "window", "documents", "rows without keys", "bf16"))
    for j, choices in enumerate(("loads=descriptor", "loops=one,loads=descriptor"))
]
CHOSEN += [f"{name}|loads=descriptor" for name in ("boxes, 3-D", "boxes, extra keys")]


LATER = ("bf16, odd widths", "fp16", "many keys for one query", "one channel", "window of 63", "window before sinks")
LATER += (
    "prefix or causal",
    "neighborhood, 3-D",
    "shifted windows",
    "power blocks",
    "entmax, steep",
    "alibi",
    "pair bias",
)
LATER += (
    "dual triangle across heads",
    "relative bias",
    "sink",
    "boxes",
    "a scale of 0 and a sink",
    "sparsemax",
    "softmax1",
)


@pytest.mark.parametrize("name", [*some(CASES, *LATER), *CHOSEN])
def test_against_the_reference(name: str, ask: Ask) -> None:
    found, case = ask(name), CASES[name.partition("|")[0]]
    assert found["name"] == name
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
