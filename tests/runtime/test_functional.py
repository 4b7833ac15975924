"""torch.func: grad, vjp and functional_call give the gradients; vmap and what is built on it is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen.errors import InputError
from tests.end_to_end.oracle import operands, random
from tests.runtime.derivatives import BACKENDS, leaves, weighted
from tests.runtime.modules import Attention

pytestmark = pytest.mark.cxx
REFUSED = (
    "q, k, v: are inside a torch.func transform (vmap, jvp) that kernels do not take; "
    "call the kernel outside of it, with the mapped dimension as the batch"
)
KERNEL = attngen.compile(attngen.Spec(mask=attngen.masks.causal(), score="score * gate[h]"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("return_lse", [False, True])
def test_grad(return_lse: bool, backend: str | None) -> None:
    kernel = attngen.compile(KERNEL.spec, backend=backend)
    given = (*operands(n_q=9), random(4))

    def loss(q: Tensor, k: Tensor, v: Tensor, gate: Tensor, run: Any = kernel) -> Tensor:
        return weighted(run(q, k, v, gate=gate, return_lse=return_lse))

    found = torch.func.grad(loss, argnums=(0, 1, 2, 3))(*given)
    exact = torch.func.grad(lambda *a: loss(*a, run=kernel.reference), argnums=(0, 1, 2, 3))(*given)
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one, other)
    assert not found[0].requires_grad
    with torch.no_grad():
        torch.testing.assert_close(torch.func.grad(loss)(*given), exact[0])


def test_grad_by_a_capture() -> None:
    slopes = random(4)
    held = [slopes]
    kernel = attngen.compile(attngen.Spec(score=lambda score, h: score * held[0][h]))
    qkv = operands(n_q=9)

    def loss(slopes: Tensor, run: Any = kernel) -> Tensor:
        held[0] = slopes
        return weighted(run(*qkv))

    exact = torch.func.grad(lambda s: loss(s, kernel.reference))(slopes)
    torch.testing.assert_close(torch.func.grad(loss)(slopes), exact)


def test_vjp_keeps_its_function() -> None:
    q, k, v = operands(n_q=9)
    out, pull = torch.func.vjp(lambda q, k: KERNEL(q, k, v, gate=random(4)), q, k)
    for seed in (1, 2):
        cotangent = random(*out.shape, seed=seed)
        leaf = leaves(q, k)
        exact = torch.autograd.grad(KERNEL(*leaf, v, gate=random(4)), leaf, cotangent)
        for one, other in zip(pull(cotangent), exact, strict=True):
            torch.testing.assert_close(one, other)


def test_under_a_graph_of_its_own() -> None:
    q, k, v = leaves(*operands(n_q=9))
    gradient = torch.func.grad(lambda q: weighted(KERNEL(q, k.detach(), v.detach(), gate=random(4))))(q.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(weighted(KERNEL(q, k, v, gate=random(4))), q)[0])
    with pytest.raises(InputError, match="second derivative"):
        torch.func.grad(lambda q: weighted(KERNEL(q, k, v, gate=random(4))))(q).sum().backward()


def test_functional_call() -> None:
    module, x = Attention(), torch.randn(2, 9, 16)
    weights = dict(module.named_parameters())

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(module, weights, (x,)).square().sum()

    found = torch.func.grad(loss)(weights)
    module(x).square().sum().backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)


Q, K, V = operands(n_q=9)


def one(q: Tensor) -> Tensor:
    return KERNEL(q, K, V, gate=torch.ones(4)).square().sum()


TRANSFORMS: dict[str, Callable[[], Any]] = {
    "vmap of the queries": lambda: torch.vmap(lambda s: KERNEL(Q * s, K, V, gate=torch.ones(4)))(torch.rand(3)),
    "vmap of an input": lambda: torch.vmap(lambda gate: KERNEL(Q, K, V, gate=gate))(torch.rand(3, 4)),
    "vmap of grad": lambda: torch.vmap(torch.func.grad(one))(Q[None]),
    "grad of vmap": lambda: torch.func.grad(lambda q: torch.vmap(one)(q).sum())(Q[None]),
    "jvp": lambda: torch.func.jvp(one, (Q,), (Q,)),
    "jacfwd": lambda: torch.func.jacfwd(one)(Q),
    "hessian": lambda: torch.func.hessian(one)(Q),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_refused(name: str) -> None:
    with pytest.raises(InputError) as caught:
        TRANSFORMS[name]()
    assert str(caught.value) == REFUSED


def test_refused_in_the_backward() -> None:
    with pytest.raises(InputError, match=r"q, k, v: gradients of many cotangents were asked for at once \(jacrev"):
        torch.func.jacrev(lambda q: KERNEL(q, K, V, gate=torch.ones(4)))(Q)
    with pytest.raises(InputError, match="q, k, v: a second derivative was asked for"):
        torch.func.grad(lambda q: torch.func.grad(one)(q).sum())(Q)


def test_a_kernel_of_other_tensors_inside_a_transform() -> None:
    exact = one(Q)
    torch.testing.assert_close(torch.vmap(lambda x: x * one(Q))(torch.ones(3)), exact.expand(3))
    q = Q.clone().requires_grad_()
    torch.func.grad(lambda x: x * one(q))(torch.ones(())).backward()
    assert q.grad is not None
    torch.testing.assert_close(q.grad, torch.autograd.grad(one(q), q)[0])
