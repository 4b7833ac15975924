"""Triton kernels under torch.compile, from several threads, and what they say to calls that cannot be."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

import attngen
from attngen.errors import UnsupportedError
from tests.runtime.triton_processes import told

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
Said = dict[str, dict[str, Any]]
BOUND = 1e-5
WIDE = "vectors of {} channels are wider than the 256 that a Triton kernel holds"


@pytest.fixture(scope="module")
def said() -> Said:
    """What the worker found."""
    (found,) = told("tests.runtime.triton_calls", ())
    return found


def found_by(said: Said, name: str) -> dict[str, Any]:
    assert "failed" not in said[name], said[name]["failed"]
    return said[name]


@needs_triton
def test_compiled(said: Said) -> None:
    found = found_by(said, "compiled")
    assert found["gap"] <= BOUND
    # One for the first length, and one for all others.
    assert (found["breaks"], found["graphs"]) == ({}, 2)


@needs_triton
def test_compiled_with_a_log_sum_exp(said: Said) -> None:
    assert found_by(said, "compiled_log_sum_exp")["gap"] <= BOUND


@needs_triton
@pytest.mark.parametrize("name", ["two_threads", "backward_in_another_thread"])
def test_threads(said: Said, name: str) -> None:
    same = found_by(said, name)["same"]
    assert same == [True] * len(same)
    assert len(same) == {"two_threads": 2 * 2 * 5, "backward_in_another_thread": 5}[name]


@needs_triton
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wide heads", f"attention: no backend takes it (triton: {WIDE.format(257)})"),
        ("wide values", f"attention: no backend takes it (triton: {WIDE.format(300)})"),
        ("wide heads, gradients", f"attention: no backend takes it and its gradient (triton: {WIDE.format(320)})"),
        (
            "float64",
            "attention: no backend takes it (triton: float64 has no Triton kernel; use float32 or backend='reference')",
        ),
        ("keys elsewhere", "k: is on meta, but q is on cpu; move it there"),
        ("an input elsewhere", "gate: is on meta, but q is on cpu; move it there"),
    ],
)
def test_refusals(said: Said, name: str, message: str) -> None:
    assert found_by(said, "refusals")[name] == message


@pytest.mark.parametrize("gradients", [False, True])
def test_without_triton(monkeypatch: pytest.MonkeyPatch, gradients: bool) -> None:
    monkeypatch.setattr("attngen.codegen.backends.triton.support.find_spec", lambda name: None)
    q = torch.ones(1, 1, 4, 16, requires_grad=gradients)
    with pytest.raises(UnsupportedError) as caught:
        attngen.compile(attngen.Spec(), backend="triton")(q, q, q)
    what = "it and its gradient" if gradients else "it"
    assert str(caught.value) == (
        f"attention: no backend takes {what} (triton: Triton is not installed; pip install triton)"
    )


@needs_triton
def test_gradients_on_the_cpu_need_the_interpreter() -> None:
    q = torch.ones(1, 1, 4, 16, requires_grad=True)
    with pytest.raises(UnsupportedError) as caught:
        attngen.compile(attngen.Spec(), backend="triton")(q, q, q)
    assert str(caught.value) == (
        "attention: no backend takes it and its gradient (triton: tensors on the CPU need Triton's interpreter; set "
        "TRITON_INTERPRET=1 before Triton is imported, or use the cpu backend)"
    )
