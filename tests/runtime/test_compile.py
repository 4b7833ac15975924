"""Kernels under torch.compile: no graph break, dynamic shapes, captures read at each call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import attngen
from tests.end_to_end.oracle import operands
from tests.runtime.derivatives import leaves, weighted
from tests.runtime.modules import Attention

pytestmark = [pytest.mark.cxx, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("dynamic", [None, True], ids=["automatic", "dynamic"])
def test_lengths(dynamic: bool | None) -> None:
    module = Attention()
    compiled = torch.compile(module, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    with torch.no_grad():
        for n in (10, 20, 33, 1, 65):
            x = torch.randn(2, n, 16)
            torch.testing.assert_close(compiled(x), module(x))


def test_inductor() -> None:
    module = Attention()
    compiled = torch.compile(module, fullgraph=True)
    with torch.no_grad():
        x = torch.randn(2, 33, 16)
        torch.testing.assert_close(compiled(x), module(x))


def test_captures_are_read_at_each_call() -> None:
    module = Attention()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 33, 16)
    with torch.no_grad():
        found = [compiled(x)]
        module.window = 3
        found.append(compiled(x))
        torch.testing.assert_close(found[-1], module(x))
        module.slopes.mul_(3)
        found.append(compiled(x))
        torch.testing.assert_close(found[-1], module(x))
        module.slopes = torch.nn.Parameter(torch.rand(4))
        found.append(compiled(x))
        torch.testing.assert_close(found[-1], module(x))
    assert all(not torch.equal(a, b) for i, a in enumerate(found) for b in found[:i])


@pytest.mark.parametrize("order", [pytest.param("bhnd", marks=pytest.mark.slow), "bnhd", "expanded"])
def test_strides_survive(order: str) -> None:
    kernel = attngen.compile(attngen.Spec(mask=attngen.masks.causal()))
    q, k, v = operands(b=1, n_q=33)
    k = k.expand(3, -1, -1, -1)
    if order == "bnhd":
        q = q.transpose(1, 2).contiguous().transpose(1, 2)
    if order == "expanded":
        q = q.expand(3, -1, -1, -1)

    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return kernel(q * 2, k, v).transpose(1, 2).flatten(2)

    torch.testing.assert_close(torch.compile(run, fullgraph=True)(q, k, v), run(q, k, v))


def test_log_sum_exp() -> None:
    kernel = attngen.compile(attngen.Spec(mask=attngen.masks.causal()))
    compiled = torch.compile(lambda *qkv: kernel(*qkv, return_lse=True), fullgraph=True, backend="aot_eager")
    for found, expected in zip(compiled(*operands()), kernel(*operands(), return_lse=True), strict=True):
        assert torch.equal(found, expected)


def test_attention_in_one_call_says_what_to_do() -> None:
    slopes = torch.rand(4)

    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return attngen.attention(q, k, v, score=lambda score, h: score * slopes[h])

    with pytest.raises(Exception, match="make the kernel outside"):
        torch.compile(run, fullgraph=True, backend="aot_eager")(*operands())


def step(module: torch.nn.Module, run: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """The result, and the gradients of x and of every parameter."""
    x = x.clone().requires_grad_()
    module.zero_grad()
    out = run(x)
    (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
    return [t.detach().clone() for t in (out, x.grad, *(p.grad for p in module.parameters())) if t is not None]


@pytest.mark.parametrize(
    ("compiler", "dynamic"),
    [
        ("inductor", None),
        ("aot_eager", True),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (("inductor", True), ("eager", None), ("eager", True))
        ),
    ],
)
def test_training(compiler: str, dynamic: bool | None) -> None:
    module = Attention()
    compiled = torch.compile(module, fullgraph=True, dynamic=dynamic, backend=compiler)
    for n in (10, 20, 33):
        x = torch.randn(2, n, 16)
        torch.testing.assert_close(step(module, compiled, x), step(module, module, x))
    module.window = 3
    torch.testing.assert_close(step(module, compiled, x), step(module, module, x))
    with torch.no_grad():
        module.slopes.mul_(3)
    torch.testing.assert_close(step(module, compiled, x), step(module, module, x))


def test_training_with_a_log_sum_exp() -> None:
    kernel = attngen.compile(attngen.Spec(mask=attngen.masks.causal()))
    compiled = torch.compile(lambda *qkv: kernel(*qkv, return_lse=True), fullgraph=True)
    for picked in (slice(0, 1), slice(1, 2), slice(0, 2)):
        found, exact = (leaves(*operands(n_q=9)) for _ in range(2))
        weighted(compiled(*found)[picked]).backward()
        weighted(kernel(*exact, return_lse=True)[picked]).backward()
        for one, other in zip(found, exact, strict=True):
            torch.testing.assert_close(one.grad, other.grad)


def test_training_with_one_tensor_in_several_places() -> None:
    kernel = attngen.compile(attngen.Spec(mask=attngen.masks.causal()))
    compiled = torch.compile(lambda q, k: kernel(q, k, k), fullgraph=True, backend="aot_eager")
    found, exact = (leaves(*operands(n_q=9)[:2]) for _ in range(2))
    weighted(compiled(*found)).backward()
    weighted(kernel(*exact, exact[1])).backward()
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_training_of_an_input_alone() -> None:
    kernel = attngen.compile(attngen.Spec(mask="kv < length[b]", score="score * gate[h] * c"))
    q, k, v = operands(n_q=9)
    compiled = torch.compile(lambda **given: kernel(q * 2, k, v, **given), fullgraph=True)
    given = {"length": torch.tensor([5, 9]), "c": 0.25}
    found, exact = (torch.ones(4, requires_grad=True) for _ in range(2))
    weighted(compiled(gate=found, **given)).backward()
    weighted(kernel(q * 2, k, v, gate=exact, **given)).backward()
    torch.testing.assert_close(found.grad, exact.grad)


def test_checkpoint_inside() -> None:
    module = Attention()
    compiled = torch.compile(lambda x: checkpoint(module, x, use_reentrant=False), fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 10, 16)
    torch.testing.assert_close(step(module, compiled, x), step(module, module, x))


def test_training_under_autocast() -> None:
    module = Attention()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 10, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found, exact = step(module, compiled, x), step(module, module, x)
    assert found[0].dtype == torch.bfloat16
    assert all(gradient.dtype == torch.float32 for gradient in found[1:])
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.05)


def test_grad_of_torch_func_inside() -> None:
    kernel = attngen.compile(attngen.Spec(mask=attngen.masks.causal()))
    q, k, v = operands(n_q=9)
    gradient = torch.func.grad(lambda q: kernel(q, k, v).square().sum())
    with pytest.raises(Exception, match=r"inside a torch\.func transform that torch\.compile traces"):
        torch.compile(gradient, fullgraph=True, backend="eager")(q)


def test_second_derivatives_are_refused_inside_too() -> None:
    kernel = attngen.compile(attngen.Spec(mask=attngen.masks.causal()))
    q, k, v = leaves(*operands(n_q=9))
    compiled = torch.compile(lambda *qkv: kernel(*qkv), fullgraph=True, backend="aot_eager")
    with pytest.raises(RuntimeError, match=r"donated|double backward|second derivative"):
        torch.autograd.grad(compiled(q, k, v).sum(), q, create_graph=True)[0].sum().backward()


def test_autocast_inside() -> None:
    kernel = attngen.compile(attngen.Spec(mask=attngen.masks.causal()))
    compiled = torch.compile(lambda *qkv: kernel(*qkv), fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = compiled(*operands()), kernel(*operands())
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)
