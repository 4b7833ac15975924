"""Keys and values in pages run as CPU kernels, which read them where they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks, normalizers, scores, weights
from attngen.errors import BoundsError, InputError
from attngen.ir.expr import op, sym
from attngen.ir.nodes import Branch, Dot, Input, KeySet, Paged, Spec, View
from tests.end_to_end.gradients import check_gradients
from tests.end_to_end.oracle import BACKEND, check, error, kernel_of, random

pytestmark = pytest.mark.cxx

LENGTHS = (37, 0, 90, 1)
SOFTMAX = normalizers.softmax().ir
TABLES = (Input("page_table", ("b", "?"), "int"), Input("kv_lengths", ("b",), "int"))


class Cache:
    """A pool of pages in random order, with numbers that nobody may read wherever no key is."""

    def __init__(
        self,
        page: int = 16,
        lengths: tuple[int, ...] = LENGTHS,
        hk: int = 2,
        d: int = 16,
        dv: int | None = None,
        dtype: torch.dtype = torch.float32,
        spare: int = 1,
    ) -> None:
        generator = torch.Generator().manual_seed(3)
        columns = -(-max(lengths) // page) + spare
        count = len(lengths) * columns
        table = torch.randperm(count, generator=generator).reshape(len(lengths), columns)
        self.k = torch.randn(count, hk, page, d, generator=generator).to(dtype)
        self.v = torch.randn(count, hk, page, dv or d, generator=generator).to(dtype)
        for row, length in zip(table, lengths, strict=True):
            for i, place in enumerate(row):
                used = min(max(length - i * page, 0), page)
                self.k[place, :, used:] = self.v[place, :, used:] = torch.nan
            row[-(-length // page) :] = -7
        self.where = {"page_table": table, "kv_lengths": torch.tensor(lengths)}

    def q(self, n: int = 1, h: int = 4) -> Tensor:
        return random(len(self.where["kv_lengths"]), h, n, self.k.shape[3], seed=5).to(self.k.dtype)

    def call(self, n: int = 1, h: int = 4) -> tuple[Tensor, Tensor, Tensor]:
        return self.q(n, h), self.k, self.v


def paged(page: int = 16, **definition: Any) -> attngen.Spec:
    return attngen.Spec(space=Paged(page), **definition)


@pytest.mark.parametrize("page", [1, 16, 256])
def test_pages_of_any_size(page: int) -> None:
    kernel = kernel_of(paged(page, mask=masks.causal(align="bottom_right")))
    for lengths in (LENGTHS, (1,), (page, page + 1, max(1, page - 1)), (0, 0), (700, 3)):
        cache = Cache(page, lengths)
        for n in (1, 3, 60):
            check(kernel, *cache.call(n), lse=True, **cache.where)


MASKS = {
    "full": None,
    "window": masks.sliding_window(9),
    "by_batch": "kv >= b",
    "sizes": "kv * n_q <= (q + 1) * n_k",
    "residues": lambda q, kv: (q + kv) % 3 < 2,
}


@pytest.mark.parametrize("name", MASKS)
def test_masks(name: str) -> None:
    kernel = kernel_of(paged(mask=MASKS[name]))
    for lengths in (LENGTHS, (300, 3)):
        cache = Cache(lengths=lengths)
        for n in (1, 33):
            check(kernel, *cache.call(n), lse=True, **cache.where)


def test_masks_that_read_tensors() -> None:
    kept = torch.rand(4, 400) < 0.5
    kernel = kernel_of(paged(mask=lambda b, q, kv,: kept[b, kv] & (kv <= q + 40)))
    for lengths in (LENGTHS, (300, 3, 0, 20)):
        cache = Cache(lengths=lengths)
        for n in (1, 33):
            check(kernel, *cache.call(n), lse=True, **cache.where)
    bottom_right = lambda b, q, kv, n_q, n_k: kept[b, kv] & (kv <= q + n_k - n_q)  # noqa: E731
    cache = Cache()
    check(paged(mask=bottom_right), *cache.call(30), lse=True, **cache.where)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=["fp64", "fp16"])
def test_dtypes(dtype: torch.dtype) -> None:
    cache = Cache(dtype=dtype)
    kernel = kernel_of(paged(mask=masks.causal(align="bottom_right")))
    check(kernel, *cache.call(1), lse=True, **cache.where)
    check(kernel, *cache.call(50), lse=True, **cache.where)


@pytest.mark.parametrize("element", [torch.int32, torch.int64])
def test_integers_of_any_width(element: torch.dtype) -> None:
    cache = Cache()
    where = {name: t.to(element) for name, t in cache.where.items()}
    check(paged(), *cache.call(), **where)


def test_widths_and_heads() -> None:
    cache = Cache(hk=1, d=24, dv=40)
    check(paged(mask=masks.causal(align="bottom_right")), *cache.call(3, 6), lse=True, **cache.where)


def test_scores_and_normalizers() -> None:
    bias, slopes = random(4, 400), random(4)
    cache = Cache()
    specs = [
        paged(score=scores.alibi(slopes), normalizer=normalizers.softmax(sink=slopes)),
        paged(score=lambda score, b, h, kv, n_k: score + bias[h, n_k - 1 - kv] + bias[b, kv]),
        paged(normalizer=normalizers.sigmoid(bias=-1.0), weight=weights.dropout(0.3, seed=5)),
        paged(normalizer=normalizers.relu()),
    ]
    for spec in specs:
        check(spec, *cache.call(3), **cache.where)


def test_layouts() -> None:
    cache = Cache()
    spec = paged(mask=masks.causal(align="bottom_right"))
    kernel = attngen.compile(spec, layout="bnhd", backend=BACKEND)
    out, _ = kernel(*(t.transpose(1, 2) for t in cache.call(5)), return_lse=True, **cache.where)
    assert torch.equal(out.transpose(1, 2), kernel_of(spec)(*cache.call(5), return_lse=True, **cache.where)[0])


def test_keys_and_values_side_by_side_in_one_pool() -> None:
    cache = Cache()
    pool = torch.stack([cache.k, cache.v], 1).transpose(2, 3).contiguous()  # (pages, k or v, page, Hk, D)
    k, v = (pool[:, i].transpose(1, 2) for i in range(2))
    kernel = kernel_of(paged())
    expected = kernel(*cache.call(2), **cache.where)
    assert torch.equal(kernel(cache.q(2), k, v, **cache.where), expected)
    strided = [t.mT.contiguous().mT for t in (k, v)]
    torch.testing.assert_close(kernel(cache.q(2), *strided, **cache.where), expected)


def test_the_same_as_without_pages() -> None:
    cache = Cache(lengths=(64, 64))
    q, k, v = cache.call(7)
    dense = [t[cache.where["page_table"][:, :4]].transpose(1, 2).flatten(2, 3) for t in (k, v)]
    spec = masks.causal(align="bottom_right")
    found = kernel_of(paged(mask=spec))(q, k, v, return_lse=True, **cache.where)
    expected = kernel_of(attngen.Spec(mask=spec))(q, *dense, return_lse=True)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_thread_counts_do_not_matter() -> None:
    cache = Cache(lengths=(3000, 17))
    kernel = kernel_of(paged())
    threads, found = torch.get_num_threads(), []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        found.append(kernel(*cache.call(2), **cache.where))
    torch.set_num_threads(threads)
    assert all(torch.equal(found[0], out) for out in found)


def test_tokens_that_are_appended() -> None:
    cache = Cache(spare=2)
    kernel = kernel_of(paged(mask=masks.sliding_window(50)))
    page = 16
    for step in range(20):
        lengths, table = cache.where["kv_lengths"], cache.where["page_table"]
        for b in range(len(lengths)):
            at = int(lengths[b])
            if at % page == 0:
                free = set(range(len(cache.k))) - set(table.reshape(-1).tolist())
                table[b, at // page] = free.pop()
            place = int(table[b, at // page])
            cache.k[place, :, at % page], cache.v[place, :, at % page] = random(2, 16, seed=step), random(2, 16)
        lengths += 1
        check(kernel, *cache.call(), **cache.where)


def test_rotary_parts_without_pages() -> None:
    dots = (Dot(), Dot(View("q_rope"), View("k_rope")))
    rope = (Input("q_rope", ("b", "h", "q", "?")), Input("k_rope", ("b", "?", "kv", "?")))
    spec = Spec((Branch(SOFTMAX, dots=dots),), Paged(16), (*TABLES, *rope))
    cache = Cache()
    most = cache.where["page_table"].shape[1] * 16
    given = {"q_rope": random(4, 4, 3, 6), "k_rope": random(4, 1, most, 6)}
    check(spec, *cache.call(3), lse=True, **given, **cache.where)
    given["k_rope"] = given["k_rope"][:, :, 1:]
    with pytest.raises(InputError, match=f"k_rope: got {most - 1} keys; the page table holds {most}"):
        kernel_of(spec)(*cache.call(3), **given, **cache.where)


def test_more_keys_without_pages() -> None:
    free = ("b", "h", "?", "?")
    extra = KeySet((Dot(k=View("k2")),), View("v2"), mask=op("le", sym("kv"), op("add", sym("q"), 2)))
    inputs = (*TABLES, Input("k2", free), Input("v2", free))
    spec = Spec((Branch(SOFTMAX, keysets=(extra,)),), Paged(16), inputs)
    cache = Cache()
    check(spec, *cache.call(3), lse=True, k2=random(4, 4, 7, 16), v2=random(1, 2, 7, 16), **cache.where)


def test_bad_tables() -> None:
    cache = Cache()
    kernel = kernel_of(paged())
    q, k, v = cache.call()
    pages = len(k)
    for wrong in (-1, pages, 2**40):
        table = cache.where["page_table"].clone()
        table[2, 4] = wrong
        message = f"page_table: page {wrong} of sequence 2 is in use, but k has the pages 0 .. {pages - 1}"
        with pytest.raises(InputError, match=message):
            kernel(q, k, v, **cache.where | {"page_table": table})
    with pytest.raises(InputError, match=f"page_table: .* but v has the pages 0 .. {pages - 5}"):
        kernel(q, k, v[:-4], **cache.where)
    most = cache.where["page_table"].shape[1] * 16
    for lengths in ((1, 2, 3, -1), (most + 1, 2, 3, 4)):
        with pytest.raises(InputError, match=f"kv_lengths: lengths must be in 0 .. {most}, the keys that the page"):
            kernel(q, k, v, **cache.where | {"kv_lengths": torch.tensor(lengths)})
    cache.where["kv_lengths"][1] = 1
    with pytest.raises(InputError, match="page_table: page -7 of sequence 1 is in use"):
        kernel(q, k, v, **cache.where)


def test_bad_shapes() -> None:
    cache = Cache()
    q, k, v = cache.call()
    kernel = kernel_of(paged())
    with pytest.raises(InputError, match="k: got pages of 15 keys; the spec says 16"):
        kernel(q, k[:, :, 1:], v, **cache.where)
    with pytest.raises(InputError, match=r"kv_lengths: dimension 0 has 3 entries; the call has 4 there \(b\)"):
        kernel(q, k, v, **cache.where | {"kv_lengths": torch.tensor([1, 2, 3])})


def test_indices_are_checked_against_the_lengths() -> None:
    table = random(91)
    kernel = kernel_of(paged(score=lambda score, kv, n_k: score + table[n_k - kv]))
    cache = Cache()
    check(kernel, *cache.call(), **cache.where)
    cache = Cache(lengths=(37, 91))
    with pytest.raises(BoundsError, match="table"):
        kernel(*cache.call(), **cache.where)


def test_gradients_are_left_to_the_reference() -> None:
    cache = Cache()
    kernel = attngen.compile(paged())
    q, k, v = (t.nan_to_num().requires_grad_() for t in cache.call())
    out = kernel(q, k, v, **cache.where)
    found = torch.autograd.grad(out.sum(), (q, k, v))
    exact = torch.autograd.grad(kernel.reference(q, k, v, **cache.where).sum(), (q, k, v))
    assert all(error(a, b) < 1e-6 for a, b in zip(found, exact, strict=True))


def test_explanations_count_the_keys_that_are_there() -> None:
    cache = Cache()
    text = str(attngen.compile(paged()).explain(*cache.call(), **cache.where))
    assert "1 queries x 112 keys in pages of 16" in text
    assert f"pairs       {4 * sum(LENGTHS)} visible" in text


@pytest.mark.parametrize(("page", "dtype"), [(16, torch.bfloat16), (5, torch.float32)], ids=str)
def test_gradients(page: int, dtype: torch.dtype) -> None:
    cache = Cache(page, dv=24, dtype=dtype)
    check_gradients(paged(page, mask=masks.causal(align="bottom_right")), *cache.call(7), lse=True, **cache.where)


def test_gradients_of_shared_pages() -> None:
    # Two sequences begin with the same page: its gradient is the sum of both.
    cache = Cache(lengths=(40, 33, 20))
    cache.where["page_table"][1, 0] = cache.where["page_table"][0, 0]
    slopes = random(4).requires_grad_()
    score = scores.Score.of(lambda score, h, q, kv: score + slopes[h] * (q - kv))
    found = check_gradients(
        paged(score=score, normalizer=normalizers.sigmoid()), *cache.call(9), by={"slopes": slopes}, **cache.where
    )
    assert found["k"][cache.where["page_table"][0, 0]].any()
