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
CHOSEN += ["boxes, 3-D|loads=descriptor", pytest.param("boxes, extra keys|loads=descriptor", marks=pytest.mark.slow)]
FIRST = """
    full; batches, GQA, wide values; one token; tokens before heads; bf16; no queries; fp16, sums of many keys; causal;
    rows without keys; two queries more; window; sinks and window; documents; nothing; neighborhood;
    neighborhood, dilated; boxes, 3-D; boxes, learned numbers; boxes, extra keys; soft cap; absent by score;
    sink, no keys; sigmoid; lssar; entmax; stick breaking; stick breaking, fewer keys; dropout; dual triangle;
    dual triangle, one softmax; learned sink; learned biases; learned distances; learned pairs; learned numbers, drawn;
    huge scores
"""
"""The cases that make test runs; the others are each one more of a kind."""
LATER = set(CASES) - {name.strip() for name in " ".join(FIRST.split()).split(";")}
assert len(CASES) - len(LATER) == FIRST.count(";") + 1


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
