"""Derivatives are refused with a sentence, by every way of asking for them; a wrong one is never given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor

import attngen
from attngen.errors import InputError
from tests.end_to_end.oracle import operands, random

pytestmark = pytest.mark.cxx
REFUSED = "requires grad, and this version computes forward only; call the kernel under torch.no_grad()"
KERNEL = attngen.compile(attngen.Spec(mask=attngen.masks.causal(), score="score * gate[h]"))


@pytest.mark.parametrize("which", ["q", "k", "v", "gate"])
def test_an_input_that_requires_grad(which: str) -> None:
    q, k, v = operands()
    given = {"q": q, "k": k, "v": v, "gate": random(4)}
    given[which].requires_grad_()
    with pytest.raises(InputError) as caught:
        KERNEL(**given)
    assert str(caught.value).startswith(f"{which}: {REFUSED}")
    assert "\n" not in str(caught.value)
    with torch.no_grad():
        assert not KERNEL(**given).requires_grad


def test_a_captured_parameter_that_requires_grad() -> None:
    slopes = torch.nn.Parameter(random(4))
    kernel = attngen.compile(attngen.Spec(score=lambda score, h: score * slopes[h]))
    with pytest.raises(InputError, match="requires grad"):
        kernel(*operands())


def test_functional_gradients() -> None:
    q, k, v = operands()
    with pytest.raises(InputError, match=r"requires grad|torch\.func transform"):
        torch.func.grad(lambda q: KERNEL(q, k, v, gate=random(4)).sum())(q)
    with pytest.raises(InputError, match=r"requires grad|torch\.func transform"):
        torch.func.grad(lambda gate: KERNEL(q, k, v, gate=gate).sum())(random(4))


def test_the_raw_operator_does_not_cut_the_graph_silently() -> None:
    kernel = attngen.compile(attngen.Spec(mask=attngen.masks.causal()))
    q, k, v = operands()
    with pytest.raises(InputError, match="forward only"):
        torch.ops.attngen.forward.default(q.requires_grad_(), k, v, [], [], [], kernel._text, kernel._options)


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
def test_forward_mode_is_refused(which: str, tangent: Callable[..., Any]) -> None:
    q, k, v = operands()
    given = {"q": q, "k": k, "v": v, "gate": random(4)}

    def function(t: Tensor) -> Tensor:
        return KERNEL(**{**given, which: t})

    with pytest.raises(
        (attngen.AttngenError, NotImplementedError, RuntimeError), match=r"forward|tangent|AD|torch.func transform"
    ):
        tangent(function, given[which])


def test_vmap_is_refused_or_right() -> None:
    q, k, v = operands()
    for function, at in [
        (lambda s: KERNEL(q * s, k, v, gate=torch.ones(4)), torch.rand(3)),
        (lambda gate: KERNEL(q, k, v, gate=gate), torch.rand(3, 4)),
    ]:
        try:
            found = torch.vmap(function)(at)
        except attngen.AttngenError as problem:
            message = str(problem)
        else:
            torch.testing.assert_close(found, torch.stack([function(one) for one in at]))
            continue
        assert "vmap" in message
