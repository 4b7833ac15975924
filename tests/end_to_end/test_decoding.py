"""Few queries: keys are read in place, heads that share keys go together, long keys are cut into slices."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import Any

import pytest
import torch

import attngen
from attngen import masks, mechanisms, normalizers, scores, weights
from attngen.ir.expr import op, sym
from attngen.ir.nodes import Branch, Dot, Input, KeySet, Spec, View
from attngen.spec import Segments
from tests.end_to_end.oracle import check, error, kernel_of, operands, random
from tests.kinds import some

pytestmark = pytest.mark.cxx

SOFTMAX = normalizers.softmax().ir
LONG = 3001


TYPES = [(torch.float32, 64), (torch.bfloat16, 64), (torch.bfloat16, 20), (torch.float16, 20), (torch.float64, 20)]


@pytest.mark.parametrize(("dtype", "d"), some(TYPES, (torch.bfloat16, 64), (torch.float64, 20)), ids=str)
def test_lengths_and_heads(dtype: torch.dtype, d: int) -> None:
    kernel = kernel_of(attngen.Spec(mask=masks.causal(align="bottom_right")))
    for n_q in (1, 2, 4, 5, 23):
        for h, hk in ((1, 1), (4, 2), (6, 1)):
            for n_k in (1, 200, LONG):
                check(kernel, *operands(h=h, hk=hk, n_q=n_q, n_k=n_k, d=d, dv=d + 4, dtype=dtype), lse=True)


@pytest.mark.parametrize(
    "mask",
    [
        masks.sliding_window(70),
        masks.prefix(9) | masks.sliding_window(torch.tensor([3, 400, 50, 1])),
        lambda h, kv: kv % 5 < h,
        masks.document(ids=torch.arange(LONG) // 700),
        "kv < 0",
    ],
    ids=["window", "window by head", "head", "table", "nothing"],
)
def test_masks(mask: Any) -> None:
    kernel = kernel_of(attngen.Spec(mask=mask))
    for n_q, n_k in ((1, LONG), (3, 500)):
        check(kernel, *operands(n_q=n_q, n_k=n_k), lse=True)


SPECS = {
    "alibi": (attngen.Spec(score=scores.alibi(torch.rand(4))), True),
    "sink": (attngen.Spec(normalizer=normalizers.softmax(sink=torch.tensor([3.0, -1.0, 8.0, 0.0]))), True),
    "stick breaking": (attngen.Spec(mask=masks.causal(), normalizer=normalizers.stick_breaking()), False),
    "dropout": (attngen.Spec(weight=weights.dropout(0.4, seed=3)), True),
    "huge scores": (attngen.Spec(score="score * 3e6"), True),
    "negative scale": (attngen.Spec(scale=-0.3), True),
    "scores of -inf": (attngen.Spec(score=lambda score, kv: torch.where(kv % 7 == 0, score, -torch.inf)), True),
    "difference": (mechanisms.differential(0.4), False),
}
"""test_normalizers has few queries of all others, test_passes those of passes without a mask."""


@pytest.mark.parametrize("name", SPECS)
def test_scores_and_normalizers(name: str) -> None:
    spec, lse = SPECS[name]
    kernel = kernel_of(spec)
    for n_q, n_k in ((1, LONG), (2, 1200), (4, 90)):
        q, k, v = operands(n_q=n_q, n_k=n_k, hk=2)
        check(kernel, q, k, v, lse=lse)


def test_values_that_sum_up() -> None:
    mean = op("add", op("safe_div", sym("acc"), sym("mass")), op("safe_div", sym("vsum"), sym("count")))

    spec = Spec((Branch(replace(SOFTMAX, finalize=mean), mask=op("ne", op("mod", sym("kv"), 3), 0)),))
    for n_q, n_k in ((1, LONG), (3, 100)):
        check(spec, *operands(n_q=n_q, n_k=n_k))


def test_several_dots_and_key_sets() -> None:
    dots = (Dot(), Dot(View("q2"), View("k2")))
    extra = KeySet((Dot(k=View("k3")), Dot(View("q2"), View("k4"))), View("v3"), mask=op("lt", sym("kv"), 5))
    names = ("q2", "k2", "k3", "k4", "v3")
    inputs = tuple(Input(name, ("b", "h", "?", "?")) for name in names)
    spec = Spec((Branch(SOFTMAX, dots=dots, keysets=(extra,)),), inputs=inputs)
    q, k, v = operands(n_q=2, n_k=LONG, hk=2)
    shapes = ((2, 4, 2, 6), (2, 1, LONG, 6), (2, 2, 1300, 16), (2, 1, 1300, 6), (2, 4, 1300, 16))
    given = {name: random(*shape, seed=i) for i, (name, shape) in enumerate(zip(names, shapes, strict=True))}
    check(spec, q, k, v, lse=True, **given)


def test_head_maps() -> None:
    dots = (Dot(View("q"), View("k", head=op("mod", sym("h"), sym("heads")))),)
    check(
        Spec((Branch(SOFTMAX, dots=dots, v=View("v", head=op("floordiv", sym("h"), 3))),)), *operands(n_q=1, n_k=LONG)
    )


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_absent_keys_hold_does_not_matter(value: float) -> None:
    kernel = kernel_of(attngen.Spec(mask=masks.sliding_window(40)))
    q, k, v = operands(n_q=2, n_k=1300)
    out = kernel(q, k, v)
    k[:, :, :1200] = v[:, :, :1200] = value
    assert torch.equal(kernel(q, k, v), out)
    v[:, :, 1290] = value
    check(kernel, q, k, v)


def test_strides() -> None:
    kernel = kernel_of(attngen.Spec())
    q, k, v = operands(n_q=2, n_k=LONG)
    expected = kernel(q, k, v)
    turned = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (k, v)]
    assert torch.equal(kernel(q, *turned), expected)
    strided = [t.mT.contiguous().mT for t in (k, v)]
    torch.testing.assert_close(kernel(q, *strided), expected, rtol=1e-5, atol=1e-5)


def test_thread_counts_do_not_matter() -> None:
    kernel = kernel_of(attngen.Spec(mask=masks.causal(align="bottom_right")))
    threads = torch.get_num_threads()
    for n_q, h in ((1, 1), (3, 4), (20, 4)):
        q, k, v = operands(b=1, h=h, hk=1, n_q=n_q, n_k=5000)
        found = []
        for count in (1, 2, 7):
            torch.set_num_threads(count)
            found.append(kernel(q, k, v))
        torch.set_num_threads(threads)
        assert all(torch.equal(found[0], out) for out in found)


def test_gradients() -> None:
    kernel = kernel_of(attngen.Spec(score=scores.soft_cap(5.0)))
    leaves = [t.requires_grad_() for t in operands(n_q=2, n_k=LONG)]
    out = kernel(*leaves)
    cotangent = random(*out.shape, seed=4)
    found = torch.autograd.grad(out, leaves, cotangent)
    exact = torch.autograd.grad(kernel.reference(*leaves), leaves, cotangent.double())
    assert all(error(a, b) < 1e-5 for a, b in zip(found, exact, strict=True))


def test_packed_sequences_of_few_queries() -> None:
    kernel = kernel_of(attngen.Spec(mask=masks.causal(align="bottom_right"), space=Segments()))
    for q_lengths, k_lengths in (
        ((1,) * 9, (300, 1, 700, 2000, 0, 17, 64, 5, 600)),
        ((3, 1, 0, 4), (1200, 30, 5, 900)),
    ):
        q, k, v = operands(b=1, h=6, hk=2, n_q=sum(q_lengths), n_k=sum(k_lengths))
        offsets = [torch.tensor([0, *accumulate(lengths)]) for lengths in (q_lengths, k_lengths)]
        where = dict(zip(("cu_seqlens_q", "cu_seqlens_k"), offsets, strict=True))
        out = check(kernel, q, k, v, lse=True, **where)
        threads = torch.get_num_threads()
        torch.set_num_threads(3)
        assert torch.equal(kernel(q, k, v, **where), out)
        torch.set_num_threads(threads)
