"""Plain functions equal themselves when their attention is a kernel: values, and gradients by every float argument."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from tests.lift.cases import CASES, LEFT, Case

pytestmark = [pytest.mark.cxx, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]
BOUND = 1e-5


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def marked(case: Case) -> Any:
    return pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.slow else [])


def differentiated(function: Any, case: Case) -> list[Tensor]:
    """The results, and the gradients of a number that depends on every entry of them."""
    args = [a.detach().clone().requires_grad_(a.is_floating_point()) for a in case.make()]
    found = function(*args)
    results = found if isinstance(found, tuple) else (found,)
    total = sum(((r * torch.linspace(-1, 1, r.numel()).view(r.shape)).sum() for r in results), torch.zeros(()))
    total.backward()
    return [*(r.detach() for r in results), *(a.grad for a in args if a.grad is not None)]


def close(found: list[Tensor], exact: list[Tensor]) -> None:
    for place, (one, other) in enumerate(zip(found, exact, strict=True)):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        assert float((one - other).norm()) <= BOUND * float(other.norm()), f"result or gradient {place}"


@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_lifts(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    lifted = attngen.compile(case.function, lift=True, fullgraph=True)
    close(differentiated(lifted, case), differentiated(case.function, case))
    assert len(lifted.backend.lifted) == case.lifted
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in LEFT])
def test_is_left_alone(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    lifted = attngen.compile(case.function, lift=True)
    close(differentiated(lifted, case), differentiated(case.function, case))
    assert not lifted.backend.lifted
    assert case.reason in caplog.text
    assert ("functions.py" in caplog.text) == bool(case.reason)


def test_at_least_45_of_50_lift() -> None:
    attempted = [case for case in (*CASES, *LEFT) if case.attention]
    assert len(attempted) >= 50
    assert sum(case.lifted > 0 for case in attempted) >= 45
