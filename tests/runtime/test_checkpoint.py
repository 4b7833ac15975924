"""Activation checkpointing: the forward runs again in the backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import attngen
from tests.end_to_end.oracle import operands, random
from tests.runtime.derivatives import BACKENDS, leaves, weighted
from tests.runtime.modules import Attention

pytestmark = pytest.mark.cxx


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("return_lse", [False, True])
@pytest.mark.parametrize("reentrant", [False, True])
def test_same_gradients(reentrant: bool, return_lse: bool, backend: str | None) -> None:
    slopes = random(4).requires_grad_()
    spec = attngen.Spec(mask=attngen.masks.causal(), score=lambda score, h, q, kv: score - slopes[h] * (q - kv))
    kernel = attngen.compile(spec, backend=backend)
    by = [*leaves(*operands(n_q=9)), slopes]

    def run(q: Any, k: Any, v: Any) -> Any:
        return kernel(q, k, v, return_lse=return_lse)

    expected = torch.autograd.grad(weighted(run(*by[:3])), by)
    weighted(checkpoint(run, *by[:3], use_reentrant=reentrant)).backward()
    for tensor, gradient in zip(by, expected, strict=True):
        assert tensor.grad is not None
        assert torch.equal(tensor.grad, gradient)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_module(reentrant: bool) -> None:
    module, x = Attention(), torch.randn(2, 9, 16, requires_grad=True)
    module(x).square().sum().backward()
    expected = [p.grad for p in module.parameters()]
    module.zero_grad(set_to_none=True)
    checkpoint(module, x, use_reentrant=reentrant).square().sum().backward()
    for parameter, gradient in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_saved_tensors_may_be_moved_and_packed() -> None:
    kernel = attngen.compile(attngen.Spec(mask=attngen.masks.causal()))
    qkv = leaves(*operands(n_q=9))
    expected = torch.autograd.grad(weighted(kernel(*qkv)), qkv)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t.clone()):
        loss = weighted(kernel(*qkv))
    for one, other in zip(torch.autograd.grad(loss, qkv), expected, strict=True):
        assert torch.equal(one, other)
