"""float32 on GPUs is float32, unless torch is told that tf32 will do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import attngen
from attngen.codegen.backends.triton.backend import TritonBackend
from attngen.codegen.precision import bare_tf32
from tests.codegen.plans import plan_of


@pytest.fixture(autouse=True)
def hopper(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(("told", "precision"), [("highest", "tf32x3"), ("high", "tf32")])
def test_torch_decides(told: str, precision: str) -> None:
    torch.set_float32_matmul_precision(told)
    backend, plan = TritonBackend("cuda"), plan_of(attngen.Spec())
    assert backend.configs(plan)[0].precision == precision
    both = backend.configs_backward(plan)[0]
    assert both.queries.precision == both.keys.precision == precision
    assert not bare_tf32("cpu")


def test_the_config_is_part_of_what_a_kernel_is_called() -> None:
    torch.set_float32_matmul_precision("highest")
    exact = str(TritonBackend("cuda").configs(plan_of(attngen.Spec()))[0])
    torch.set_float32_matmul_precision("high")
    assert str(TritonBackend("cuda").configs(plan_of(attngen.Spec()))[0]) != exact
