"""Kernels under torch.compile: no graph break, dynamic shapes, captures read at each call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import attngen
from tests.end_to_end.oracle import operands
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


@pytest.mark.parametrize("order", ["bhnd", "bnhd", "expanded"])
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


def test_gradients_are_refused_inside_too() -> None:
    compiled = torch.compile(Attention(), fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match=r"forward only|requires grad"):
        compiled(torch.randn(2, 10, 16))


def test_autocast_inside() -> None:
    kernel = attngen.compile(attngen.Spec(mask=attngen.masks.causal()))
    compiled = torch.compile(lambda *qkv: kernel(*qkv), fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = compiled(*operands()), kernel(*operands())
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)
