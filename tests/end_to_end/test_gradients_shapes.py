"""Gradients over awkward shapes: lengths, widths, heads, batches, strides, layouts, key sets and branches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks, mechanisms, normalizers
from attngen.ir.expr import const, op, sym
from attngen.ir.nodes import Affine, Branch, Concat, Dot, Input, Spec, View
from tests.end_to_end.gradients import check_gradients
from tests.end_to_end.oracle import BACKEND, kernel_of, operands, random
from tests.end_to_end.test_keysets import CAUSAL, EXTRA, HALF, RULES, SOFTMAX, extra, part, text, two_sets
from tests.end_to_end.test_shapes import STRIDES

pytestmark = pytest.mark.cxx

SLOPES = random(6).requires_grad_()
BY = {"slopes": SLOPES}
SPEC = attngen.Spec(mask=masks.causal(align="bottom_right"), score=lambda score, h, q, kv: score - SLOPES[h] * (q - kv))
KERNEL = kernel_of(SPEC)
BNHD = attngen.compile(SPEC, layout="bnhd", backend=BACKEND)


def turned(*tensors: Tensor) -> list[Tensor]:
    return [t.transpose(1, 2) for t in tensors]


@pytest.mark.parametrize("n_k", [1, 2, 31, 96, 97, 385])
@pytest.mark.parametrize("n_q", [1, 2, 47, 49, 97])
def test_lengths(n_q: int, n_k: int) -> None:
    by = {} if (n_q, n_k) == (1, 1) else BY  # one pair at distance 0: nothing to compare with
    check_gradients(KERNEL, *operands(h=6, hk=2, n_q=n_q, n_k=n_k), by=by, lse=True)


@pytest.mark.parametrize(
    ("b", "h", "n_q", "n_k"), [(0, 6, 5, 7), (2, 0, 5, 7), (2, 6, 0, 7), (2, 6, 5, 0), (2, 6, 0, 0), (0, 0, 0, 0)]
)
def test_empty(b: int, h: int, n_q: int, n_k: int) -> None:
    kernel, by = (KERNEL, BY) if h else (kernel_of(attngen.Spec()), {})
    found = check_gradients(kernel, *operands(b=b, h=h, hk=h // 2, n_q=n_q, n_k=n_k), by=by, lse=True)
    assert not any(t.any() for t in found.values())


def test_no_keys_but_a_sink() -> None:
    sink = random(4).requires_grad_()
    kernel = kernel_of(attngen.Spec(normalizer=normalizers.softmax(sink=sink)))
    for n_k in (0, 1, 5):
        check_gradients(kernel, *operands(n_k=n_k), by={"sink": sink}, lse=True)


@pytest.mark.parametrize(("hk", "hv"), [(6, 6), (3, 3), (1, 1), (3, 1), (2, 6)])
def test_heads(hk: int, hv: int) -> None:
    q, k, v = operands(h=6, hk=6, n_k=91)
    check_gradients(KERNEL, q, k[:, :hk], v[:, :hv], by=BY, lse=True)


@pytest.mark.parametrize(("bq", "bk", "bv"), [(3, 1, 1), (1, 3, 3), (1, 1, 3), (3, 3, 1)])
def test_batches_broadcast(bq: int, bk: int, bv: int) -> None:
    q, k, v = operands(b=3, h=6)
    check_gradients(KERNEL, q[:bq], k[:bk], v[:bv], by=BY, lse=True)


@pytest.mark.parametrize(("d", "dv"), [(1, 1), (3, 2), (130, 1), (5, 300)])
def test_widths(d: int, dv: int) -> None:
    check_gradients(KERNEL, *operands(h=6, n_q=53, n_k=91, d=d, dv=dv), by=BY, lse=True)


@pytest.mark.parametrize("strides", STRIDES)
def test_strides(strides: str) -> None:
    change = STRIDES[strides]
    q, k, v = operands(h=6, hk=2, n_q=53, n_k=91)
    kept = [t.clone() for t in (q, k, v)]
    check_gradients(KERNEL, *(change(t) for t in (q, k, v)), by=BY, lse=True)
    check_gradients(BNHD, *turned(*(change(t) for t in (q, k, v))), by=BY, lse=True)
    assert all(torch.equal(a, b) for a, b in zip(kept, (q, k, v), strict=True)), "an input was changed"


COTANGENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "one-for-all": lambda t: torch.ones((), dtype=t.dtype).expand(t.shape),
    "one-row-for-all": lambda t: t[:, :, :1].expand(t.shape),
    "token-major": lambda t: t.transpose(1, 2).contiguous().transpose(1, 2),
    "channel-major": lambda t: t.mT.contiguous().mT,
    "every-second-channel": lambda t: t.repeat_interleave(2, -1)[..., ::2],
    "unaligned": lambda t: torch.cat([t.new_zeros(1), t.reshape(-1)])[1:].view(t.shape),
    "zero": torch.zeros_like,
}


@pytest.mark.parametrize("strides", COTANGENTS)
def test_strides_of_the_cotangent(strides: str) -> None:
    q, k, v = operands(h=6, hk=2, n_q=53, n_k=91)
    found = check_gradients(KERNEL, q, k, v, by=BY, dout=COTANGENTS[strides])
    check_gradients(BNHD, *turned(q, k, v), by=BY, dout=COTANGENTS[strides])
    assert strides != "zero" or not any(t.any() for t in found.values())


def test_layouts_agree_bit_for_bit() -> None:
    q, k, v = operands(h=6, hk=2, n_q=53, n_k=91)
    one = check_gradients(KERNEL, q, k, v, by=BY, dout=torch.ones_like)
    other = check_gradients(BNHD, *turned(q, k, v), by=BY, dout=torch.ones_like)
    assert all(torch.equal(one[n], other[n].transpose(1, 2)) for n in "qkv")
    assert torch.equal(one["slopes"], other["slopes"])


@pytest.mark.parametrize("rule", RULES)
def test_two_sets_of_keys(rule: str) -> None:
    score = op("sub", sym("score"), op("mul", op("to_float", sym("kv")), 0.1))
    kernel = kernel_of(two_sets(RULES[rule], score=score, mask=op("ne", op("mod", sym("kv"), 5), 3)))
    for n in (1, 60):
        check_gradients(kernel, *operands(n_q=130), lse=rule != "sigmoid", **text(n))
    check_gradients(kernel, *operands(), lse=rule != "sigmoid", **text(b=1, heads=2))
    for n_k, n_text in [(0, 7), (70, 0), (0, 0)]:
        check_gradients(kernel, *operands(n_k=n_k), lse=rule != "sigmoid", **text(n_text))


def test_keys_that_are_their_own_values_add_up() -> None:
    # One tensor in several views: its gradient is the sum over all of them.
    branch = Branch(SOFTMAX, dots=(Dot(k=View("x")),), v=View("x"), mask=CAUSAL, keysets=(extra(mask=CAUSAL),))
    spec = Spec((branch,), inputs=(Input("x", ("b", "?", "kv", "?")), *EXTRA))
    q, k, v = operands()
    check_gradients(spec, q, k, v, x=random(2, 2, 70, 16), **text(70))


@pytest.mark.parametrize("join", [None, "where"])
def test_dots_of_two_halves(join: str | None) -> None:
    dots = (Dot(part("q", None, HALF), part("k", None, HALF), const(0.5)), Dot(part("q", HALF), part("k", HALF)))
    chosen = op("where", op("gt", sym("kv"), sym("q")), sym("dot[1]"), op("mul", sym("dot[0]"), sym("dot[1]")))
    branch = Branch(SOFTMAX, dots=dots, mask=op("ne", op("mod", sym("kv"), 3), 1), join=chosen if join else None)
    check_gradients(Spec((branch,)), *operands(d=22, dv=9), lse=True)


def test_a_rotary_part_with_one_key_head() -> None:
    dots = (Dot(), Dot(View("q_rope"), View("k_rope"), op("rsqrt", op("to_float", op("add", sym("d"), 8)))))
    inputs = (Input("q_rope", ("b", "h", "q", "?")), Input("k_rope", ("b", "?", "kv", "?")))
    given = {"q_rope": random(2, 4, 70, 5), "k_rope": random(2, 1, 70, 5, seed=2)}
    check_gradients(Spec((Branch(SOFTMAX, dots=dots, mask=CAUSAL),), inputs=inputs), *operands(d=24), lse=True, **given)


def test_heads_that_are_mapped() -> None:
    reverse = op("sub", op("sub", sym("heads"), 1), sym("h"))
    dots = (Dot(View("q", head=reverse), View("k", head=op("mod", sym("h"), sym("heads")))),)
    first = Branch(SOFTMAX, dots=dots, v=View("v", head=op("floordiv", sym("h"), 3)), mask=CAUSAL)
    check_gradients(Spec((first,)), *operands(), lse=True)


def test_two_score_heads_for_each_value_head() -> None:
    heads = (op("add", op("mul", sym("h"), 2), i) for i in range(2))
    branches = [
        Branch(SOFTMAX, dots=(Dot(View("q", head=i), View("k", head=i)),), v=View("v", head=sym("h"))) for i in heads
    ]
    q, k, _ = operands(hk=4)
    check_gradients(Spec(tuple(branches), combine=Affine((const(1.0), const(-0.3)))), q, k, random(2, 2, 70, 16))


def test_branches_side_by_side_with_different_widths() -> None:
    narrow = Branch(SOFTMAX, v=View("v", stop=HALF), mask=CAUSAL)
    others = Branch(RULES["sigmoid"]), Branch(SOFTMAX, v=View("v", start=const(1)), mask=op("gt", sym("kv"), sym("q")))
    check_gradients(Spec((narrow, *others), combine=Concat()), *operands(n_q=130, dv=7))


SPECS: dict[str, Callable[[], Any]] = {
    "within-head": lambda: mechanisms.dual_triangle(),
    "across-heads": lambda: mechanisms.dual_triangle(layout="across_heads", normalizer=normalizers.softmax1()),
    "joint": lambda: mechanisms.dual_triangle(layout="joint", mask=lambda q, kv: (q + kv) % 3 != 1),
}
"""test_gradients_scores has differential attention."""


@pytest.mark.parametrize("name", SPECS)
def test_mechanisms_of_several_parts(name: str) -> None:
    kernel = kernel_of(SPECS[name]())
    for n in (1, 130):
        check_gradients(kernel, *operands(hk=4, n_q=n, d=20), lse=name == "joint")


def test_many_rows_and_heads() -> None:
    check_gradients(KERNEL, *operands(b=1, h=6, hk=2, n_q=700, n_k=801), by=BY, lse=True)


def test_windows_of_long_sequences() -> None:
    # Every strip of queries keeps sums for its own keys alone.
    check_gradients(attngen.Spec(mask=masks.sliding_window(33)), *operands(b=1, h=2, hk=1, n_q=1500, d=8), lse=True)
