"""Lengths, heads, strides and layouts are run-time facts: one kernel takes them all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks
from tests.end_to_end.oracle import BACKEND, check, kernel_of, operands

pytestmark = pytest.mark.cxx

SPEC = attngen.Spec(mask=masks.causal(align="bottom_right"))
KERNEL = kernel_of(SPEC)
BNHD = attngen.compile(SPEC, layout="bnhd", backend=BACKEND)


@pytest.mark.parametrize("n_k", [1, 2, 31, 32, 127, 128, 129, 385])
@pytest.mark.parametrize("n_q", [1, 2, 47, 48, 49, 97])
def test_lengths(n_q: int, n_k: int) -> None:
    check(KERNEL, *operands(n_q=n_q, n_k=n_k), lse=True)


@pytest.mark.parametrize(
    ("h", "hk", "hv"), [(1, 1, 1), (6, 6, 6), (6, 3, 3), (6, 2, 2), (6, 1, 1), (6, 3, 1), (6, 2, 6)]
)
def test_heads(h: int, hk: int, hv: int) -> None:
    q, k, v = operands(h=h, hk=6, n_k=91)
    check(KERNEL, q, k[:, :hk], v[:, :hv], lse=True)


@pytest.mark.parametrize(("bq", "bk", "bv"), [(3, 1, 1), (1, 3, 3), (1, 1, 3), (1, 3, 1), (3, 3, 1)])
def test_batches_broadcast(bq: int, bk: int, bv: int) -> None:
    q, k, v = operands(b=3)
    out = check(KERNEL, q[:bq], k[:bk], v[:bv], lse=True)
    assert out.shape[0] == 3


def sliced(t: Tensor) -> Tensor:
    return torch.cat([t, t * 7], -2)[:, :, 1 : t.shape[2] + 1]


STRIDES: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda t: t,
    "token-major": lambda t: t.transpose(1, 2).contiguous().transpose(1, 2),
    "channel-major": lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
    "batch-last": lambda t: t.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
    "every-second-channel": lambda t: t.repeat_interleave(2, -1)[..., ::2],
    "every-second-channel-from-1": lambda t: t.repeat_interleave(2, -1)[..., 1::2],
    "slice-of-tokens": sliced,
    "slice-of-packed-qkv": lambda t: torch.cat([t, t, t], -1)[..., t.shape[-1] : 2 * t.shape[-1]],
    "unaligned": lambda t: torch.cat([t.new_zeros(1), t.reshape(-1)])[1:].view(t.shape),
    "one-head-for-all": lambda t: t[:, :1].expand(t.shape),
    "one-batch-for-all": lambda t: t[:1].expand(t.shape),
    "one-token-for-all": lambda t: t[:, :, :1].expand(t.shape),
    "one-channel-for-all": lambda t: t[..., :1].expand(t.shape),
    "every-second-head": lambda t: t.repeat_interleave(2, 1)[:, ::2],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("strides", STRIDES)
def test_strides(strides: str, dtype: torch.dtype) -> None:
    change = STRIDES[strides]
    q, k, v = (change(t) for t in operands(n_q=53, n_k=91, dtype=dtype))
    kept = [t.clone() for t in (q, k, v)]
    check(KERNEL, q, k, v, lse=True)
    check(BNHD, *(change(t.contiguous()).transpose(1, 2) for t in (q, k, v)), lse=True)
    assert all(torch.equal(a, b) for a, b in zip(kept, (q, k, v), strict=True)), "an input was changed"


@pytest.mark.parametrize("strides", ["contiguous", "token-major", "batch-last"])
def test_result_takes_the_memory_order_of_q(strides: str) -> None:
    q, k, v = operands(n_q=53, n_k=91)
    q = STRIDES[strides](q)
    out = KERNEL(q, k, v)
    axes = sorted(range(3), key=q.stride)
    assert axes == sorted(range(3), key=out.stride)
    assert out.stride(3) == 1
    assert KERNEL(q, k, v).transpose(1, 2).stride() == BNHD(*(t.transpose(1, 2) for t in (q, k, v))).stride()


def test_layouts_agree_bit_for_bit() -> None:
    q, k, v = operands(n_q=53, n_k=91)
    turned = BNHD(*(t.transpose(1, 2).contiguous() for t in (q, k, v)))
    assert torch.equal(turned.transpose(1, 2), KERNEL(q, k, v))


def test_layout_of_one_call() -> None:
    q, k, v = operands(n_q=53, n_k=91)
    turned = KERNEL(*(t.transpose(1, 2) for t in (q, k, v)), layout="bnhd")
    assert torch.equal(turned.transpose(1, 2), KERNEL(q, k, v))


@pytest.mark.parametrize(
    ("b", "h", "n_q", "n_k"), [(0, 4, 5, 7), (2, 0, 5, 7), (2, 4, 0, 7), (2, 4, 5, 0), (2, 4, 0, 0), (0, 0, 0, 0)]
)
def test_empty(b: int, h: int, n_q: int, n_k: int) -> None:
    q, k, v = operands(b=b, h=h, hk=h // 2, n_q=n_q, n_k=n_k, dv=8)
    out, lse = KERNEL(q, k, v, return_lse=True)
    assert out.shape == (b, h, n_q, 8)
    assert lse.shape == (b, h, n_q)
    assert not out.any()
    assert lse.isneginf().all()


@pytest.mark.parametrize(("b", "h"), [(0, 4), (2, 0)])
def test_no_rows_of_a_table(b: int, h: int) -> None:
    kernel = kernel_of(attngen.Spec(mask=attngen.masks.document(torch.arange(70) // 7)))
    assert kernel(*operands(b=b, h=h, hk=h // 2)).shape == (b, h, 70, 16)


def test_no_keys_but_a_sink() -> None:
    sink = torch.tensor([0.5, -1.0, 2.0, 0.0])
    spec = attngen.Spec(normalizer=attngen.normalizers.softmax(sink=sink))
    out, lse = kernel_of(spec)(*operands(n_k=0), return_lse=True)
    assert not out.any()
    torch.testing.assert_close(lse, sink[None, :, None].expand(lse.shape))


def test_many_rows_and_heads() -> None:
    check(KERNEL, *operands(h=6, hk=2, n_q=700, n_k=901), lse=True)
