"""Packed sequences run as CPU kernels: every sequence as if it were alone, whatever lies beside it."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks, normalizers, scores, weights
from attngen.errors import BoundsError, InputError, UnsupportedError
from attngen.ir.expr import load, op, sym
from attngen.ir.nodes import Affine, Branch, Dot, Input, KeySet, Spec, View
from attngen.spec import Segments
from tests.end_to_end.oracle import BACKEND, check, error, kernel_of, random
from tests.kinds import some

pytestmark = pytest.mark.cxx

Q_LENGTHS = (70, 0, 13, 150, 1, 0, 5)
K_LENGTHS = (60, 5, 0, 190, 40, 0, 5)
SOFTMAX = normalizers.softmax().ir
OFFSETS = (Input("cu_seqlens_q", ("?",), "int"), Input("cu_seqlens_k", ("?",), "int"))


def offsets(lengths: tuple[int, ...]) -> Tensor:
    return torch.tensor([0, *accumulate(lengths)])


def call(
    q: tuple[int, ...] = Q_LENGTHS,
    k: tuple[int, ...] | None = None,
    h: int = 4,
    hk: int = 2,
    d: int = 16,
    dv: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[tuple[Tensor, Tensor, Tensor], dict[str, Any]]:
    """q, k, v of packed sequences, and their offsets."""
    k = (K_LENGTHS if q is Q_LENGTHS else q) if k is None else k
    sizes = ((1, h, sum(q), d), (1, hk, sum(k), d), (1, hk, sum(k), dv or d))
    tensors = tuple(random(*size, seed=i).to(dtype) for i, size in enumerate(sizes))
    return tensors, {"cu_seqlens_q": offsets(q), "cu_seqlens_k": offsets(k)}  # type: ignore[return-value]


def packed(**definition: Any) -> attngen.Spec:
    return attngen.Spec(space=Segments(), **definition)


SHAPES = [
    (Q_LENGTHS, K_LENGTHS),
    ((1,), (1,)),
    ((33,), (65,)),
    ((3, 4) * 20, (4, 3) * 20),
    ((1,) * 60, (1,) * 60),
    ((0, 0, 9), (0, 7, 0)),
    ((0, 0), (3, 4)),
    ((5, 6), (0, 0)),
    ((9, 9, 4), (9, 2, 0)),
    ((300, 2, 90), (300, 2, 90)),
]

MASKS = {
    "full": None,
    "causal": masks.causal(),
    "bottom_right": masks.causal(align="bottom_right"),
    "window": masks.window(20, 5),
    "prefix_or_near": masks.prefix(3) | masks.sliding_window(7),
    "by_sequence": "kv >= b",
    "residues": lambda b, h, q, kv: (q + kv + b + h) % 3 < 2,
    "sizes": "kv * n_q <= q * n_k + n_b",
}


@pytest.mark.parametrize("name", some(MASKS, "bottom_right", "prefix_or_near", "by_sequence"))
def test_masks(name: str) -> None:
    kernel = kernel_of(packed(mask=MASKS[name]))
    for q, k in SHAPES:
        tensors, where = call(q, k)
        check(kernel, *tensors, lse=True, **where)


def test_documents_inside_a_sequence() -> None:
    ids = (torch.rand(300) < 0.1).long().cumsum(0)
    kernel = kernel_of(packed(mask=masks.document(ids=ids) & masks.causal()))
    for q, k in SHAPES:
        tensors, where = call(q, k)
        check(kernel, *tensors, lse=True, **where)
    ids.zero_()
    tensors, where = call()
    check(kernel, *tensors, lse=True, **where)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=["fp64", "bf16", "fp16"])
def test_dtypes(dtype: torch.dtype) -> None:
    kernel = kernel_of(packed(mask=masks.causal()))
    for q, k in ((Q_LENGTHS, K_LENGTHS), ((33, 200), (65, 200))):
        tensors, where = call(q, k, dtype=dtype)
        check(kernel, *tensors, lse=True, **where)


def test_values_of_another_width_and_one_key_head() -> None:
    tensors, where = call(hk=1, d=24, dv=40)
    check(packed(mask=masks.causal()), *tensors, lse=True, **where)


def test_layouts() -> None:
    tensors, where = call()
    spec = packed(mask=masks.window(9, 3))
    kernel = attngen.compile(spec, layout="bnhd", backend=BACKEND)
    out, lse = kernel(*(t.transpose(1, 2) for t in tensors), return_lse=True, **where)
    expected, row = kernel_of(spec)(*tensors, return_lse=True, **where)
    assert torch.equal(out.transpose(1, 2), expected)
    assert torch.equal(lse, row)


def test_thread_counts_do_not_matter() -> None:
    kernel = kernel_of(packed(mask=masks.causal()))
    tensors, where = call((130, 40, 300, 2))
    threads, found = torch.get_num_threads(), []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        found.append(kernel(*tensors, return_lse=True, **where))
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for out in found for a, b in zip(found[0], out, strict=True))


def test_a_sequence_does_not_see_what_lies_beside_it() -> None:
    kernel = kernel_of(packed(mask=masks.causal()))
    (q, k, v), where = call((30, 50, 20))
    out, _ = kernel(q, k, v, return_lse=True, **where)
    for t in (q, k, v):
        t[:, :, :30], t[:, :, 80:] = torch.nan, torch.inf
    assert torch.equal(kernel(q, k, v, return_lse=True, **where)[0][:, :, 30:80], out[:, :, 30:80])


@pytest.mark.parametrize(
    ("definition", "lse"),
    [
        ({"normalizer": normalizers.sigmoid(bias=-1.0)}, False),
        ({"normalizer": normalizers.softmax(sink=torch.tensor([0.5, -1.0, 2.0, 0.0]))}, True),
        ({"normalizer": normalizers.relu(), "scale": lambda n_k: 1.0 / (n_k + 1)}, False),
    ],
    ids=["sigmoid", "sink", "relu"],
)
def test_normalizers(definition: dict[str, Any], lse: bool) -> None:
    kernel = kernel_of(packed(mask=masks.causal(), **definition))
    for q, k in SHAPES[:4]:
        tensors, where = call(q, k)
        check(kernel, *tensors, lse=lse, **where)


def test_tensors_by_sequence_position_and_distance() -> None:
    slopes, by_query, by_key, relative = random(7, 4), random(150), random(4, 200), random(4, 400)

    def score(score: Any, b: Any, h: Any, q: Any, kv: Any) -> Any:
        return score * slopes[b, h] + by_query[q] - by_key[h, kv] + relative[h, q - kv + 199]

    tensors, where = call()
    check(packed(score=score, mask=masks.causal()), *tensors, lse=True, **where)
    check(packed(score=scores.alibi(slopes[0])), *tensors, lse=True, **where)


def test_inputs_along_packed_axes() -> None:
    kernel = kernel_of(packed(score="score + bias[h, kv] * gate[b, h, q]", mask="(kv <= q) and (keep[kv] == 1)"))
    tensors, where = call()
    tokens_q, tokens_k = sum(Q_LENGTHS), sum(K_LENGTHS)
    given = {"bias": random(4, tokens_k), "keep": (random(tokens_k) > -1).int()}
    check(kernel, *tensors, lse=True, gate=random(7, 4, tokens_q), **given, **where)
    check(kernel, *tensors, lse=True, gate=random(1, 4, tokens_q), **given, **where)


def test_random_numbers_count_from_the_start_of_a_sequence() -> None:
    tensors, where = call()
    check(packed(mask=masks.causal(), weight=weights.dropout(0.3, seed=2**40 + 3)), *tensors, **where)


def test_packed_rotary_parts_and_gated_branches() -> None:
    dots = (Dot(), Dot(View("q_rope"), View("k_rope")))
    rope = (Input("q_rope", ("b", "h", "q", "?")), Input("k_rope", ("b", "?", "kv", "?")), Input("gate", ("h", "q")))
    causal = op("le", sym("kv"), sym("q"))
    branches = (Branch(SOFTMAX, dots=dots, mask=causal), Branch(SOFTMAX, dots=dots))
    gate = Affine((load("gate", (sym("h"), sym("q"))), op("neg", load("gate", (sym("h"), sym("q"))))))
    spec = Spec(branches, Segments(), (*OFFSETS, *rope), combine=gate)
    tensors, where = call()
    given = {"q_rope": random(1, 4, sum(Q_LENGTHS), 6), "k_rope": random(1, 1, sum(K_LENGTHS), 6)}
    check(spec, *tensors, gate=random(4, sum(Q_LENGTHS)), **given, **where)


def shared_keys(**branch: Any) -> Spec:
    """Main keys that are packed, and more that all sequences share."""
    free = ("b", "h", "?", "?")
    extra = KeySet((Dot(k=View("k2")),), View("v2"), mask=op("le", sym("kv"), sym("q")))
    inputs = (*OFFSETS, Input("k2", free), Input("v2", free))
    main = op("lt", sym("q"), op("add", sym("kv"), 9))
    return Spec((Branch(SOFTMAX, mask=main, keysets=(extra,), **branch),), Segments(), inputs)


def test_keys_that_all_sequences_share() -> None:
    kernel = kernel_of(shared_keys())
    for q, k in SHAPES:
        tensors, where = call(q, k)
        check(kernel, *tensors, lse=True, k2=random(1, 4, 37, 16), v2=random(1, 2, 37, 16), **where)


def test_keys_of_each_sequence_are_refused() -> None:
    tensors, where = call((5, 6))
    with pytest.raises(UnsupportedError, match="k2: got batch 2; keys and values of each packed sequence"):
        kernel_of(shared_keys())(*tensors, k2=random(2, 4, 3, 16), v2=random(2, 4, 3, 16), **where)


def test_a_weight_over_packed_and_shared_keys_is_left_to_the_reference() -> None:
    kernel = attngen.compile(attngen.Spec.from_ir(shared_keys(weight=op("exp", op("neg", op("to_float", sym("kv")))))))
    tensors, where = call((5, 6))
    given = {"k2": random(1, 4, 3, 16), "v2": random(1, 2, 3, 16), **where}
    assert error(kernel(*tensors, **given), kernel.reference(*tensors, **given)) < 1e-6
    explained = str(kernel.explain(*tensors, **given))
    assert "not cpu: a weight over keys of which some are packed and some are not has no kernel yet" in explained


@pytest.mark.parametrize(
    ("q_offsets", "k_offsets", "message"),
    [
        ([1, 5, 9], [0, 5, 9], r"cu_seqlens_q: offsets must rise from 0 to the 9 tokens, got \[1, 5, 9\]"),
        ([0, 5, 8], [0, 5, 9], r"cu_seqlens_q: offsets must rise from 0 to the 9 tokens, got \[0, 5, 8\]"),
        ([0, 5, 9], [0, 10, 9], r"cu_seqlens_k: offsets must rise from 0 to the 9 tokens, got \[0, 10, 9\]"),
        ([0, 9], [0, 5, 9], "cu_seqlens_k: got 3 entries, cu_seqlens_q has 2"),
        ([0], [0], "cu_seqlens_q: got no sequence; offsets hold at least two entries"),
        ([*range(9), 8], [0, *range(9)], r"rise from 0 to the 9 tokens, got \[0, 1, 2, 3, ..., 6, 7, 8, 8\]"),
    ],
)
def test_bad_offsets(q_offsets: list[int], k_offsets: list[int], message: str) -> None:
    tensors, _ = call((9,))
    with pytest.raises(InputError, match=message):
        kernel_of(packed())(*tensors, cu_seqlens_q=torch.tensor(q_offsets), cu_seqlens_k=torch.tensor(k_offsets))


def test_offsets_that_change_in_place() -> None:
    kernel = kernel_of(packed(mask=masks.causal()))
    tensors, where = call((30, 50, 20))
    check(kernel, *tensors, lse=True, **where)
    for at in where.values():
        at[1] = 45
    check(kernel, *tensors, lse=True, **where)
    where["cu_seqlens_k"][1] = 90
    with pytest.raises(InputError, match="cu_seqlens_k: offsets must rise"):
        kernel(*tensors, return_lse=True, **where)


def test_batches_of_packed_sequences() -> None:
    (q, k, v), where = call((9,))
    with pytest.raises(InputError, match="q: got batch 2; packed sequences have batch 1"):
        kernel_of(packed())(torch.cat([q, q]), k, v, **where)


def test_indices_count_within_the_sequence() -> None:
    table = random(55)
    kernel = kernel_of(packed(score=lambda score, kv: score + table[kv]))
    tensors, where = call((30, 50, 20))
    check(kernel, *tensors, lse=True, **where)
    tensors, where = call((30, 56, 20))
    with pytest.raises(BoundsError, match="index 0 of 'table', `kv`, takes values 0 to 55") as caught:
        kernel(*tensors, **where)
    assert "table[kv]" in str(caught.value)
    # What is packed has neighbours that are not its own.
    next_key = Spec(
        (Branch(SOFTMAX, score=op("add", sym("score"), load("bias", (op("add", sym("kv"), 1),)))),),
        Segments(),
        (*OFFSETS, Input("bias", ("kv",))),
    )
    with pytest.raises(BoundsError, match="bias"):
        kernel_of(next_key)(*tensors, bias=random(106), **where)


def test_one_offsets_for_queries_and_keys() -> None:
    kernel = kernel_of(attngen.Spec(space=Segments("cu", "cu"), mask=masks.sliding_window(20)))
    tensors, where = call((130, 0, 40, 300, 2))
    check(kernel, *tensors, lse=True, cu=where["cu_seqlens_q"].int())


def test_gradients() -> None:
    slopes, relative = random(7, 4).requires_grad_(), random(4, 400).requires_grad_()
    score = lambda score, b, h, q, kv: score * slopes[b, h] + relative[h, q - kv + 199]  # noqa: E731
    kernel = kernel_of(packed(mask="(kv <= q) and (kv >= b)", score=score))
    tensors, where = call()
    leaves = [*(t.requires_grad_() for t in tensors), slopes, relative]
    out = kernel(*tensors, **where)
    cotangent = random(*out.shape, seed=9)
    found = torch.autograd.grad(out, leaves, cotangent)
    exact = torch.autograd.grad(kernel.reference(*tensors, **where), leaves, cotangent.double())
    assert all(error(a, b) < 1e-5 for a, b in zip(found, exact, strict=True))


def test_explanations_speak_of_the_sequences() -> None:
    kernel = attngen.compile(packed(mask=masks.causal()))
    tensors, where = call((30, 50, 20))
    text = str(kernel.explain(*tensors, **where))
    assert "100 queries x 100 keys in 3 packed sequences" in text
    assert "mask        kv <= q" in text
    assert f"pairs       {4 * (30 * 31 + 50 * 51 + 20 * 21) // 2} visible" in text
