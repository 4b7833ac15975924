"""Gradients as torch asks for them: twice, accumulated, after a change in place; refused where there are none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor

import attngen
from attngen.errors import InputError
from tests.end_to_end.oracle import operands, random
from tests.runtime.derivatives import BACKENDS, leaves, weighted

pytestmark = pytest.mark.cxx
SECOND = (
    "q, k, v: a second derivative was asked for, which kernels do not compute; "
    "differentiate kernel.reference twice instead"
)
KERNEL = attngen.compile(attngen.Spec(mask=attngen.masks.causal(), score="score * gate[h]"))


def test_no_graph_without_need() -> None:
    q, k, v = leaves(*operands(n_q=9))
    with torch.no_grad():
        assert not KERNEL(q, k, v, gate=random(4)).requires_grad
    assert not KERNEL(*operands(n_q=9), gate=random(4)).requires_grad
    assert KERNEL(q, k, v, gate=random(4)).requires_grad


def test_several_backward_calls_add_up() -> None:
    q, k, v = leaves(*operands(n_q=9))
    loss = weighted(KERNEL(q, k, v, gate=random(4)))
    loss.backward(retain_graph=True)
    assert q.grad is not None
    once = q.grad.clone()
    loss.backward()
    torch.testing.assert_close(q.grad, 2 * once)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@pytest.mark.parametrize("which", ["q", "k", "v", "gate", "captured", "limits"])
def test_a_change_in_place_before_the_backward_is_an_error(which: str) -> None:
    captured, limits = random(4), torch.tensor([3, 9])
    score = attngen.scores.Score.of("score * gate[h]") >> (lambda score, h: score + captured[h])
    kernel = attngen.compile(attngen.Spec(mask=lambda b, kv: kv < limits[b], score=score))
    given = dict(zip(("q", "k", "v"), leaves(*operands(n_q=9)), strict=True)) | {"gate": random(4)}
    out = kernel(**given)
    with torch.no_grad():
        {**given, "captured": captured, "limits": limits}[which].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_numbers_of_the_backward_are_those_of_the_forward() -> None:
    window, strength = 3, 0.5
    mask = lambda q, kv: (kv <= q) & (q - kv < window)  # noqa: E731
    kernel = attngen.compile(attngen.Spec(mask=mask, score=lambda score: score * strength))
    qkv = leaves(*operands(n_q=9))
    exact = torch.autograd.grad(weighted(kernel.reference(*qkv)), qkv)
    loss = weighted(kernel(*qkv))
    window, strength = 9, 2.0
    for one, other in zip(torch.autograd.grad(loss, qkv), exact, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("backend", BACKENDS)
def test_training_steps(backend: str | None) -> None:
    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slopes = torch.nn.Parameter(torch.zeros(4))
            spec = attngen.Spec(score=lambda score, h, q, kv: score - self.slopes[h] * abs(q - kv))
            self.kernel = attngen.compile(spec, backend=backend)

        def forward(self, *qkv: Tensor) -> Tensor:
            return self.kernel(*qkv)

    layer = Layer()
    optimizer = torch.optim.SGD(layer.parameters(), 1e-3)
    qkv = operands(n_q=21)
    with torch.no_grad():
        layer.slopes.fill_(0.3)
        target = layer(*qkv)
        layer.slopes.zero_()
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (layer(*qkv) - target).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] * 0.9


def test_second_derivatives_are_refused() -> None:
    q, k, v = leaves(*operands(n_q=9))
    loss = weighted(KERNEL(q, k, v, gate=random(4)))
    (first,) = torch.autograd.grad(loss, q, create_graph=True)
    torch.testing.assert_close(first, torch.autograd.grad(weighted(KERNEL(q, k, v, gate=random(4))), q)[0])
    with pytest.raises(InputError) as caught:
        first.square().sum().backward()
    assert str(caught.value) == SECOND


def test_many_cotangents_at_once_are_refused() -> None:
    q, k, v = leaves(*operands(n_q=9))
    out = KERNEL(q, k, v, gate=random(4))
    with pytest.raises(InputError) as caught:
        torch.autograd.grad(out, q, torch.ones(3, *out.shape), is_grads_batched=True)
    assert str(caught.value) == (
        "q, k, v: gradients of many cotangents were asked for at once (jacrev, is_grads_batched), which kernels do not "
        "compute; ask for them one by one"
    )


def test_forward_mode_over_the_backward_is_refused() -> None:
    q, k, v = leaves(*operands(n_q=9))
    out = KERNEL(q, k, v, gate=random(4))
    with forward_ad.dual_level(), pytest.raises(InputError) as caught:
        torch.autograd.grad(out, q, forward_ad.make_dual(torch.ones_like(out), torch.ones_like(out)))
    assert str(caught.value) == (
        "q, k, v: carry forward-mode tangents, which kernels do not compute; use kernel.reference"
    )


@pytest.mark.parametrize("operator", ["forward", "forward_lse", "forward_save", "forward_lse_save"])
def test_the_raw_operator_does_not_cut_the_graph_silently(operator: str) -> None:
    kernel = attngen.compile(attngen.Spec(mask=attngen.masks.causal()))
    q, k, v = operands()
    raw = getattr(torch.ops.attngen, operator).default
    with pytest.raises(InputError) as caught:
        raw(q.requires_grad_(), k, v, [], [], [], kernel._text, kernel._options)
    assert str(caught.value) == (
        "q, k, v: require grad, and the raw operators of attngen have no gradient; call the kernel, or use "
        "torch.no_grad()"
    )


def test_a_backend_that_is_forced_says_that_it_has_no_backward() -> None:
    from attngen.codegen.backends.cpu.backend import CpuBackend
    from attngen.errors import UnsupportedError

    kernel = attngen.compile(attngen.Spec(name="forced"), backend="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CpuBackend, "supports_backward", lambda self, plan: "there is none")
        with pytest.raises(UnsupportedError) as caught:
            kernel(*leaves(*operands(d=7)))
    assert str(caught.value) == "forced: no backend takes it and its gradient (cpu: there is none)"


def tangent_of_jvp(function: Callable[[Tensor], Tensor], at: Tensor) -> Any:
    return torch.func.jvp(function, (at,), (torch.ones_like(at),))[1]


def tangent_of_dual(function: Callable[[Tensor], Tensor], at: Tensor) -> Any:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(function(forward_ad.make_dual(at, torch.ones_like(at)))).tangent


def tangent_of_dual_without_grad(function: Callable[[Tensor], Tensor], at: Tensor) -> Any:
    with torch.no_grad():
        return tangent_of_dual(function, at)


@pytest.mark.parametrize("tangent", [tangent_of_jvp, tangent_of_dual, tangent_of_dual_without_grad])
@pytest.mark.parametrize("which", ["q", "v", "gate"])
@pytest.mark.parametrize("with_grad", [False, True])
def test_forward_mode_is_refused(which: str, tangent: Callable[..., Any], with_grad: bool) -> None:
    q, k, v = operands()
    given = {"q": q, "k": k.requires_grad_(with_grad), "v": v, "gate": random(4)}

    def function(t: Tensor) -> Tensor:
        return KERNEL(**{**given, which: t})

    with pytest.raises(InputError) as caught:
        tangent(function, given[which].detach())
    assert str(caught.value) in (
        "q, k, v: carry forward-mode tangents, which kernels do not compute; use kernel.reference",
        "q, k, v: are inside a torch.func transform (vmap, jvp) that kernels do not take; "
        "call the kernel outside of it, with the mapped dimension as the batch",
    )


def test_the_backward_is_built_beside_the_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNGEN_CACHE_DIR", str(tmp_path))
    q = torch.randn(1, 2, 5, 8, requires_grad=True)
    out = attngen.compile(attngen.Spec(mask=attngen.masks.causal()), backend="cpu")(q, q, q)
    for thread in threading.enumerate():
        if thread.name == "attngen-build":
            thread.join()
    monkeypatch.setenv("ATTNGEN_DISABLE_JIT", "1")
    out.sum().backward()
    assert q.grad is not None
