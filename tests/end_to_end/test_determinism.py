"""Same input, same bits: at any number of threads, from any Python thread, and with nothing written to an input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks, normalizers
from tests.end_to_end.oracle import kernel_of, operands

pytestmark = pytest.mark.cxx
N = 500

SPECS: dict[str, Callable[[], attngen.Spec]] = {
    "causal": lambda: attngen.Spec(mask=masks.causal()),
    "sigmoid": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.sigmoid(-3.0)),
    "affine": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.affine(0.5, 0.01)),
    "lssar": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.lssar(3, 0.5)),
    "entmax": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.entmax(1.5)),
    "stick-breaking": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.stick_breaking()),
}
"""test_gradients_determinism has tables, dropout and branches, and looks at results too."""


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def bits(out: Any) -> Tensor:
    return torch.cat([t.contiguous().view(torch.uint8).flatten() for t in out])


CASES = [*((name, torch.float32) for name in SPECS), ("causal", torch.bfloat16), ("affine", torch.bfloat16)]


@pytest.mark.parametrize(("name", "dtype"), CASES, ids=[f"{n}-{str(t).removeprefix('torch.')}" for n, t in CASES])
def test_threads(name: str, dtype: torch.dtype, threads: Callable[[int], None]) -> None:
    kernel = kernel_of(SPECS[name]())
    q, k, v = operands(n_q=N, hk=4, dtype=dtype)
    found = []
    for count in (1, 2, 3, 5, 16, 1):
        threads(count)
        found.append(kernel(q, k, v))
    assert all(torch.equal(bits([out]), bits(found[:1])) for out in found)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_threads_with_absent_values_that_are_not_finite(value: float, threads: Callable[[int], None]) -> None:
    kernel = kernel_of(attngen.Spec(mask=masks.causal()))
    for at in (10, 60, 250, 499):
        q, k, v = operands(b=1, h=1, hk=1, n_q=N)
        v[:, :, at] = value
        found = []
        for count in (1, 2, 3, 5, 16):
            threads(count)
            found.append(kernel(q, k, v)[:, :, :at])
        assert all(torch.equal(bits([out]), bits(found[:1])) for out in found)


@pytest.mark.parametrize("name", ["causal", "lssar", "entmax", "stick-breaking"])
def test_a_row_does_not_depend_on_its_batch(name: str) -> None:
    kernel = kernel_of(SPECS[name]())
    q, k, v = operands(b=3, h=4, n_q=N)
    whole = kernel(q, k, v)
    for b in range(3):
        assert torch.equal(kernel(q[b : b + 1], k[b : b + 1], v[b : b + 1]), whole[b : b + 1])


def test_inputs_are_not_changed() -> None:
    table, ids = torch.randn(4, 2 * N - 1), torch.arange(N) // 50
    kernel = kernel_of(attngen.Spec(mask=masks.document(ids), score=attngen.scores.relative_bias(table)))
    given = (*operands(n_q=N), table, ids)
    before = bits(given)
    kernel(*given[:3], return_lse=True)
    assert torch.equal(bits(given), before)


@pytest.mark.parametrize("many", [2, 8])
def test_concurrent_calls(many: int) -> None:
    kernel = kernel_of(attngen.Spec(mask="(kv < lengths[b]) and (ids[b, q] == ids[b, kv])", score="score * slope[h]"))
    generator = torch.Generator().manual_seed(0)
    calls = [
        (
            operands(n_q=200, seed=i),
            {
                "lengths": torch.tensor([11 * i + 1, 200 - i]),
                "ids": torch.randint(0, 5, (2, 200), generator=generator).sort().values,
                "slope": torch.rand(4, generator=generator),
            },
        )
        for i in range(16)
    ]
    expected = [kernel(*qkv, **inputs) for qkv, inputs in calls]
    with ThreadPoolExecutor(many) as pool:
        for _ in range(5):
            found = list(pool.map(lambda call: kernel(*call[0], **call[1]), calls))
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_concurrent_first_calls_build_once() -> None:
    text = "score * 0.123 + 0.0625 * (q % 5)"
    q, k, v = operands()
    kernels = [attngen.compile(attngen.Spec(score=text), backend="cpu") for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda kernel: kernel(q, k, v), kernels))
    assert all(torch.equal(out, found[0]) for out in found)
