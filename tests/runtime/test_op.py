"""The raw operator: schema, fake implementation, autocast, and modes that a forward has to respect."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import attngen
from attngen.ir.expr import op, sym
from attngen.ir.nodes import Branch, Concat, Input, Spec, View
from tests.end_to_end.oracle import error, kernel_of, operands, random
from tests.runtime.derivatives import BACKENDS, leaves

pytestmark = pytest.mark.cxx
SOFTMAX = attngen.normalizers.softmax().ir
CAUSAL = attngen.compile(attngen.Spec(mask=attngen.masks.causal()))


def arguments(kernel: attngen.Kernel, *qkv: Tensor, **inputs: Any) -> tuple[Any, ...]:
    return (*qkv, *kernel._values(inputs), kernel._text, kernel._options)


def windowed(backend: str | None) -> attngen.Kernel:
    """A kernel with a tensor, an integer and a float among its inputs."""
    slopes, window, strength = torch.rand(4), 7, 0.5
    spec = attngen.Spec(
        mask=lambda q, kv: (kv <= q) & (q - kv < window), score=lambda score, h: score * slopes[h] * strength
    )
    return attngen.compile(spec, backend=backend)


REFERENCE_LATER = [each if each is None else pytest.param(each, marks=pytest.mark.slow) for each in BACKENDS]


@pytest.mark.parametrize("backend", REFERENCE_LATER)
@pytest.mark.parametrize("operator", ["forward", "forward_lse", "forward_save", "forward_lse_save"])
def test_opcheck(operator: str, backend: str | None) -> None:
    given = getattr(torch.ops.attngen, operator).default
    torch.library.opcheck(given, arguments(windowed(backend), *operands()))
    torch.library.opcheck(given, arguments(CAUSAL, *operands(n_q=1, n_k=33)))


@pytest.mark.parametrize("backend", REFERENCE_LATER)
@pytest.mark.parametrize("operator", ["attention", "attention_lse"])
def test_opcheck_with_gradients(operator: str, backend: str | None) -> None:
    given = getattr(torch.ops.attngen, operator).default
    q, k, v = leaves(*operands(n_q=9))
    kernel = windowed(backend)
    torch.library.opcheck(given, arguments(kernel, q, k, v))
    torch.library.opcheck(given, arguments(kernel, q, k.detach(), v.detach()))
    torch.library.opcheck(given, arguments(kernel, *operands(n_q=9)))


@pytest.mark.parametrize("backend", REFERENCE_LATER)
@pytest.mark.parametrize("return_lse", [False, True])
def test_opcheck_of_the_backward(return_lse: bool, backend: str | None) -> None:
    kernel = windowed(backend)
    q, k, v = operands(n_q=9)
    q, k = q.transpose(1, 2).contiguous().transpose(1, 2), k[:1].expand(2, -1, -1, -1)
    tensors, *rest = kernel._values({})
    given = (q, k, v, tensors, *rest, kernel._text, kernel._options)
    save = torch.ops.attngen.forward_lse_save.default if return_lse else torch.ops.attngen.forward_save.default
    *results, rows = save(*given)
    dlse = random(2, 4, 9) if return_lse else None
    cotangents = (torch.ones(()).expand(results[0].shape), dlse)
    for wanted in ([True] * 4, [False, True, False, False], [False, False, False, True]):
        backward = torch.ops.attngen.backward.default
        found = (*cotangents, q, k, v, rows, tensors, wanted, *rest, kernel._text, kernel._options)
        torch.library.opcheck(backward, found)
        gradients = backward(*found)
        asked = [t for t, is_wanted in zip((q, k, v, *tensors), wanted, strict=True) if is_wanted]
        expected = [(t.shape, torch.empty_like(t).stride(), t.dtype) for t in asked]
        assert [(t.shape, t.stride(), t.dtype) for t in gradients] == expected


def layouts(b: int, h: int, n: int) -> dict[str, Tensor]:
    return {
        "contiguous": random(b, h, n, 16),
        "token-major": random(b, n, h, 16).transpose(1, 2),
        "head-major": random(h, b, n, 16).transpose(0, 1),
        "channel-first": random(16, b, h, n).permute(1, 2, 3, 0),
        "expanded-batch": random(1, h, n, 16).expand(b, h, n, 16),
        "expanded-heads": random(b, 1, n, 16).expand(b, h, n, 16),
        "sliced": random(b, h, 2 * n, 32)[:, :, ::2, :16],
    }


@pytest.mark.parametrize("layout", ["bhnd", "bnhd"])
@pytest.mark.parametrize("order", layouts(1, 1, 1))
def test_fake_result_has_the_shape_and_strides_of_the_real_one(order: str, layout: Any) -> None:
    kernel = attngen.compile(CAUSAL.spec, layout=layout)
    for b, h, n in itertools.product((0, 1, 2), (1, 4), (0, 1, 5)):
        q = layouts(b, h, n)[order]
        k, v = random(3 if b == 1 else b, h, 7, 16), random(1, h, 7, 8)
        given = [t.transpose(1, 2) if layout == "bnhd" else t for t in (q, k, v)]
        real = kernel(*given, return_lse=True)
        with FakeTensorMode() as mode:
            fake = kernel(*(mode.from_tensor(t) for t in given), return_lse=True)
        found = [(t.shape, t.stride(), t.dtype) for t in fake]
        assert found == [(t.shape, t.stride(), t.dtype) for t in real], f"b={b} h={h} n={n}"


HALF = op("floordiv", sym("d"), 2)
SPECS = {
    "sliced values": Spec((Branch(SOFTMAX, v=View("v", stop=HALF)),)),
    "side by side": Spec((Branch(SOFTMAX), Branch(SOFTMAX, v=View("v", start=HALF))), combine=Concat()),
    "other values": Spec((Branch(SOFTMAX, v=View("w")),), inputs=(Input("w", ("b", "?", "kv", "?")),)),
    "other values side by side": Spec(
        (Branch(SOFTMAX), Branch(SOFTMAX, v=View("w"))), inputs=(Input("w", ("b", "?", "kv", "?")),), combine=Concat()
    ),
}


@pytest.mark.parametrize("name", SPECS)
def test_fake_result_of_other_specs(name: str) -> None:
    kernel = kernel_of(SPECS[name])
    given = {"w": random(2, 2, 70, 9)} if "other" in name else {}
    real = kernel(*operands(dv=12), **given)
    meta = kernel(*(t.to("meta") for t in operands(dv=12)), **{n: t.to("meta") for n, t in given.items()})
    assert meta.device.type == "meta"
    assert (meta.shape, meta.stride()) == (real.shape, real.stride())


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16, torch.float16], ids=["fp32", "bf16", "fp16"])
def test_autocast(given: torch.dtype) -> None:
    q, k, v = operands()
    with torch.autocast("cpu", torch.bfloat16):
        out, lse = CAUSAL(q.to(given), k, v, return_lse=True)
    assert (out.dtype, lse.dtype) == (torch.bfloat16, torch.float32)
    assert error(out, CAUSAL.reference(q, k, v)) <= 1e-2


def test_autocast_leaves_float64_alone() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert CAUSAL(*operands(dtype=torch.float64)).dtype == torch.float64


def test_inference_mode() -> None:
    expected = CAUSAL(*operands())
    with torch.inference_mode():
        inside = operands()
        assert torch.equal(CAUSAL(*inside), expected)
    assert torch.equal(CAUSAL(*inside), expected)


def test_negated_views_are_read_with_their_sign() -> None:
    _, k, v = operands()
    q = torch.view_as_complex(random(2, 4, 70, 16, 2)).conj().imag
    assert q.is_neg()
    assert torch.equal(CAUSAL(q, k, v), CAUSAL(q.clone(), k, v))
    bias = torch.view_as_complex(random(4, 2)).conj().imag
    kernel = attngen.compile(attngen.Spec(score=lambda score, h: score + bias[h]))
    assert error(kernel(*operands()), kernel.reference(*operands())) <= 1e-5


def test_subclasses_of_tensors_come_back() -> None:
    class Mine(torch.Tensor):
        pass

    q, k, v = operands()
    out = CAUSAL(q.as_subclass(Mine), k, v)
    assert torch.equal(out.as_subclass(torch.Tensor), CAUSAL(q, k, v))
    assert torch.equal(CAUSAL(torch.nn.Parameter(q, requires_grad=False), k, v), CAUSAL(q, k, v))
