"""FlashAttention's and FlexAttention's arguments give what the libraries compute."""

# mypy: ignore-errors
from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

import attngen
from attngen.errors import SpecError
from attngen.integrations import flash, flex
from tests.end_to_end.oracle import error, operands, random

pytestmark = [pytest.mark.cxx, pytest.mark.filterwarnings("ignore")]


def flash_dense(q, k, v, scale=0.25, causal=False, window_size=(-1, -1), softcap=0.0, slopes=None, sink=None):
    """flash_attn_func as its documentation says, (B, N, H, D), in float64."""
    q, k, v = (x.double().transpose(1, 2) for x in (q, k, v))
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    i = torch.arange(q.shape[2])[:, None] + k.shape[2] - q.shape[2]
    j = torch.arange(k.shape[2])[None]
    s = q @ k.mT * scale
    if softcap:
        s = softcap * torch.tanh(s / softcap)
    if slopes is not None:
        s = s - slopes.double()[..., None, None] * (i - j).abs()
    left, right = (10**9 if side in (-1, None) else side for side in window_size)
    seen = (j >= i - left) & (j <= i + (0 if causal else right))
    s = s.masked_fill(~seen, -torch.inf)
    top = s.amax(-1, keepdim=True).clamp_min(-1e30)
    e = torch.exp(s - top)
    total = e.sum(-1, keepdim=True)
    if sink is not None:
        total = total + torch.exp(sink.double()[:, None, None] - top)
    return (torch.where(total > 0, e / total, 0) @ v).transpose(1, 2)


CASES: list[Any] = [
    {"causal": True, "window_size": (5, 0), "softcap": 8.0},
    pytest.param({"window_size": (3, 4), "slopes": random(2, 4).abs()}, marks=pytest.mark.slow),
    pytest.param({"causal": True, "sink": random(4)}, marks=pytest.mark.slow),
    pytest.param({"window_size": (None, 2), "slopes": random(4).abs()}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("given", CASES)
def test_flash(given: dict[str, Any]) -> None:
    q, k, v = (t.transpose(1, 2) for t in operands(n_q=21, n_k=33))
    names = {"slopes": "alibi_slopes", "sink": "learnable_sink"}
    spec = flash.spec(0.25, **{names.get(name, name): value for name, value in given.items()})
    assert error(attngen.compile(spec, layout="bnhd")(q, k, v), flash_dense(q, k, v, **given)) <= 1e-5


@pytest.mark.slow
def test_flash_of_packed_sequences() -> None:
    q, k, v = (t.transpose(1, 2) for t in operands(b=1, n_q=40))
    offsets = torch.tensor([0, 7, 7, 25, 40])
    kernel = attngen.compile(flash.spec(0.25, causal=True, window_size=(6, -1), varlen=True), layout="bnhd")
    found = kernel(q, k, v, cu_seqlens_q=offsets, cu_seqlens_k=offsets)
    for start, stop in zip(offsets.tolist(), offsets.tolist()[1:], strict=False):
        if stop > start:
            part = flash_dense(*(x[:, start:stop] for x in (q, k, v)), causal=True, window_size=(6, -1))
            assert error(found[:, start:stop], part) <= 1e-5


@pytest.mark.parametrize("whole", [True, False], ids=["block mask", "mask_mod"])
def test_flex(whole: bool) -> None:
    q, k, v = operands(hk=4, n_q=70)
    slopes = random(4)

    def near(b, h, q_idx, kv_idx):
        return (q_idx >= kv_idx) & (q_idx - kv_idx < 20)

    def score_mod(score, b, h, q_idx, kv_idx):
        return score - slopes[h] * (q_idx - kv_idx)

    blocks = create_block_mask(near, None, None, 70, 70, device="cpu")
    kernel = attngen.compile(flex.spec(score_mod, blocks if whole else near, scale=0.3))
    assert error(kernel(q, k, v), flex_attention(q, k, v, score_mod, blocks, scale=0.3)) <= 1e-5


def test_what_is_refused() -> None:
    with pytest.raises(SpecError, match=r"window_size: got 3; allowed: \(left, right\)"):
        flash.spec(window_size=3)
    with pytest.raises(SpecError, match=r"alibi_slopes: got 1\.0; allowed: a floating-point tensor"):
        flash.spec(alibi_slopes=1.0)
    ones = torch.ones(1, 1, 1, dtype=torch.int32)
    with pytest.raises(SpecError, match=r"(?s)block_mask: .*; allowed: a BlockMask made from a mask_mod"):
        flex.spec(block_mask=BlockMask.from_kv_blocks(ones, ones[..., None]))
