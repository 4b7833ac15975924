"""Gradients under autocast: computed in its dtype, given in the dtype of each tensor."""

from __future__ import annotations

import pytest
import torch

import attngen
from attngen.ir.nodes import Branch, Input, Spec, View
from tests.end_to_end.oracle import error, operands, random
from tests.runtime.derivatives import BACKENDS, check_gradients, leaves, weighted

pytestmark = pytest.mark.cxx


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16, torch.float16], ids=["fp32", "bf16", "fp16"])
def test_dtypes(given: torch.dtype, backend: str | None) -> None:
    slopes = random(4).requires_grad_()
    spec = attngen.Spec(mask=attngen.masks.causal(), score=lambda score, h: score * slopes[h])
    kernel = attngen.compile(spec, backend=backend)
    by = [*leaves(*operands(n_q=21, dtype=given)), slopes]
    with torch.autocast("cpu", torch.bfloat16):
        out, lse = kernel(*by[:3], return_lse=True)
    assert (out.dtype, lse.dtype) == (torch.bfloat16, torch.float32)
    found = torch.autograd.grad(weighted((out, lse)), by)
    exact = torch.autograd.grad(weighted(kernel.reference(*by[:3], return_lse=True)), by)
    for tensor, one, other in zip(by, found, exact, strict=True):
        assert one.dtype == tensor.dtype
        assert error(one, other) <= 1e-2


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_views_read_is_cast_too(backend: str | None) -> None:
    softmax = attngen.normalizers.softmax().ir
    spec = Spec((Branch(softmax, v=View("w")),), inputs=(Input("w", ("b", "?", "kv", "?"), grad=True),))
    kernel = attngen.compile(attngen.Spec.from_ir(spec), backend=backend)
    q, k, v, w = leaves(*operands(n_q=21), random(2, 2, 21, 16))
    with torch.autocast("cpu", torch.bfloat16):
        out = kernel(q, k, v, w=w)
    assert out.dtype == torch.bfloat16
    found = torch.autograd.grad(weighted(out), (q, k, w))
    exact = torch.autograd.grad(weighted(kernel.reference(q, k, v, w=w)), (q, k, w))
    for one, other in zip(found, exact, strict=True):
        assert one.dtype == torch.float32
        assert error(one, other) <= 1e-2


def test_float64_stays() -> None:
    qkv = leaves(*operands(n_q=9, dtype=torch.float64))
    with torch.autocast("cpu", torch.bfloat16):
        check_gradients(attngen.compile(attngen.Spec()), qkv, qkv)


def test_backward_inside_of_autocast() -> None:
    qkv = leaves(*operands(n_q=9))
    kernel = attngen.compile(attngen.Spec())
    with torch.autocast("cpu", torch.bfloat16):
        weighted(kernel(*qkv)).backward()
        inside = [t.grad for t in qkv]
        loss = weighted(kernel(*qkv))
    for one, other in zip(inside, torch.autograd.grad(loss, qkv), strict=True):
        assert torch.equal(one, other)
