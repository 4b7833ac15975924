"""Same input, same bits of every gradient: in repeated runs, at any number of threads, from any Python thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks, mechanisms, normalizers, weights
from tests.end_to_end.oracle import kernel_of, operands, random
from tests.kinds import some

pytestmark = pytest.mark.cxx
N = 705
"""Enough for several strips of queries in a head."""

IDS = torch.arange(N)[None].expand(2, N) // 77
GENERATOR = torch.Generator().manual_seed(0)
KIND = torch.randint(0, 5, (N,), generator=GENERATOR)
SLOPES, TABLE, KEYS, PAIRS, SHARED = random(4), random(2 * N - 1), random(4, N), random(N, N), random(5)


def score(score: Any, h: Any, q: Any, kv: Any) -> Any:
    near = score * SHARED[KIND[q]] + SHARED[KIND[kv]] - SLOPES[h] * (q - kv) * 0.01
    return near + TABLE[q - kv + N - 1] + KEYS[h, kv] + PAIRS[q, kv]


SPECS: dict[str, Callable[[], attngen.Spec]] = {
    "every-index": lambda: attngen.Spec(mask=masks.causal(), score=score),
    "documents": lambda: attngen.Spec(mask=masks.document(IDS), normalizer=normalizers.sigmoid(SLOPES)),
    "dropout": lambda: attngen.Spec(weight=weights.dropout(0.5, seed=3), normalizer=normalizers.softmax(sink=SLOPES)),
    "entmax": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.entmax(1.5)),
    "stick-breaking": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.stick_breaking()),
    "branches": lambda: mechanisms.differential(SLOPES, mask=masks.sliding_window(100)),
}
CAPTURED = [t.requires_grad_() for t in (SLOPES, TABLE, KEYS, PAIRS, SHARED)]


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def gradients(kernel: attngen.Kernel, *qkv: Tensor) -> list[Tensor]:
    """The bits of the result and of every gradient."""
    leaves = [*(t.detach().requires_grad_() for t in qkv), *CAPTURED]
    out = kernel(*leaves[:3])
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    found = torch.autograd.grad(out, leaves, cotangent, allow_unused=True)
    return [t.contiguous().view(torch.uint8) for t in (out.detach(), *found) if t is not None]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


CASES = [*((name, torch.float32) for name in SPECS), ("every-index", torch.bfloat16)]
LATER = [(name, torch.float32) for name in ("dropout", "entmax", "stick-breaking")]


@pytest.mark.parametrize(
    ("name", "dtype"), some(CASES, *LATER), ids=[f"{n}-{str(t).removeprefix('torch.')}" for n, t in CASES]
)
def test_threads(name: str, dtype: torch.dtype, threads: Callable[[int], None]) -> None:
    kernel = kernel_of(SPECS[name]())
    qkv = operands(n_q=N, dtype=dtype)
    found = []
    for count in (1, 2, 3, 4, 2, 1):
        threads(count)
        found.append(gradients(kernel, *qkv))
    assert len(found[0]) >= 4
    assert all(same(one, found[0]) for one in found)


def test_repeated_runs() -> None:
    kernel = kernel_of(SPECS["every-index"]())
    qkv = operands(n_q=N)
    first = gradients(kernel, *qkv)
    assert all(same(gradients(kernel, *qkv), first) for _ in range(10))


def test_a_batch_does_not_depend_on_the_others() -> None:
    # Of q, k and v: a captured tensor is shared by all batches.
    kernel = kernel_of(attngen.Spec(mask=masks.causal()))
    q, k, v = operands(b=3, n_q=200)
    cotangent = torch.randn(q.shape, generator=torch.Generator().manual_seed(1))

    def run(*qkv: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
        leaves = [t.detach().requires_grad_() for t in qkv]
        return torch.autograd.grad(kernel(*leaves), leaves, dout)

    whole = run(q, k, v, dout=cotangent)
    for b in range(3):
        one = run(*(t[b : b + 1] for t in (q, k, v)), dout=cotangent[b : b + 1])
        for part, all_ in zip(one, whole, strict=True):
            torch.testing.assert_close(part, all_[b : b + 1], rtol=1e-5, atol=1e-6)


def test_nothing_but_gradients_is_written() -> None:
    kernel = kernel_of(SPECS["every-index"]())
    given = (*operands(n_q=N), *CAPTURED, KIND)
    before = [t.detach().clone() for t in given]
    gradients(kernel, *given[:3])
    assert all(torch.equal(a, b) for a, b in zip(before, given, strict=True))


def test_concurrent_backwards() -> None:
    kernel = kernel_of(SPECS["every-index"]())
    calls = [operands(n_q=N, b=1, seed=i) for i in range(6)]
    expected = [gradients(kernel, *call) for call in calls]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            found = list(pool.map(lambda call: gradients(kernel, *call), calls))
            assert all(same(a, b) for a, b in zip(found, expected, strict=True))
