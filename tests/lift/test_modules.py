"""Modules as well-known repositories write them: each lifts, and results and gradients are its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attngen
from tests.lift import modules
from tests.lift.cases import KEEP, rand

pytestmark = [pytest.mark.cxx, pytest.mark.filterwarnings("ignore")]

X = rand(2, 33, 64)
CASES: list[tuple[Callable[[], nn.Module], tuple[Tensor, ...]]] = [
    (modules.NanoGPT, (X,)),
    (modules.encoder_layer, (X,)),
    (modules.Timm, (X,)),
    (modules.Bert, (X, KEEP.long())),
    (modules.Bloom, (X, rand(8, 1, 33))),
    (modules.Llama, (X,)),
    (modules.Swin, (rand(2, 25, 64),)),
    (modules.MultiHead, (X, ~KEEP)),
]
QUICK = (modules.encoder_layer,)


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def step(module: nn.Module, run: Any, args: tuple[Tensor, ...]) -> list[Tensor]:
    module.zero_grad()
    given = [a.clone().requires_grad_(a.is_floating_point()) for a in args]
    out = run(*given)
    (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
    gradients = [t.grad for t in (*given, *module.parameters()) if t.grad is not None]
    return [out.detach(), *(g.clone() for g in gradients)]


@pytest.mark.parametrize(
    ("make", "args"),
    [pytest.param(*case, id=case[0].__name__, marks=[] if case[0] in QUICK else [pytest.mark.slow]) for case in CASES],
)
def test_lifts(make: Callable[[], nn.Module], args: tuple[Tensor, ...]) -> None:
    torch.manual_seed(0)
    module = make().train(make is modules.encoder_layer)
    lifted = attngen.compile(module)
    for one, other in zip(step(module, lifted, args), step(module, module, args), strict=True):
        # A bias of keys changes no softmax: its gradient is 0 but for rounding.
        assert float((one - other).norm()) <= 1e-5 * float(other.norm()) + 1e-4
    assert len(lifted.explain(*args).specs) == 1
