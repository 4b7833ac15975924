"""Captured tensors: every element type, every way to be indexed, any strides; changed between calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks
from attngen.errors import BoundsError, InputError, UnsupportedError
from tests.end_to_end.oracle import check, kernel_of, operands, random

pytestmark = pytest.mark.cxx
N = 130
DTYPES = {
    "floats": (torch.float64, torch.float32, torch.bfloat16, torch.float16),
    "integers": (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
    "bool": (torch.bool,),
}


def numbers(dtype: torch.dtype, *shape: int, seed: int) -> Tensor:
    if dtype.is_floating_point:
        return random(*shape, seed=seed).to(dtype)
    if dtype == torch.bool:
        return random(*shape, seed=seed) > 0
    low, generator = -3 if dtype.is_signed else 0, torch.Generator().manual_seed(seed)
    return torch.randint(low, 4, shape, generator=generator).to(dtype)


def every(tensor: Tensor, rows: Tensor, keys: Tensor) -> Callable[..., Any]:
    """Reads one element for the row, one for the key, one at the distance."""
    if tensor.dtype == torch.bool:
        return lambda score, h, q, kv: (
            score + torch.where(rows[h, q] & keys[kv], 0.7, -0.1) + torch.where(tensor[q - kv + N - 1], 0.3, 0.0)
        )
    return lambda score, h, q, kv: score + 0.1 * rows[h, q] + 0.2 * keys[kv] - 0.3 * tensor[q - kv + N - 1]


def of_each(dtypes: tuple[torch.dtype, ...]) -> attngen.scores.Score:
    """One score after the other, with tensors of one element type each."""
    found = attngen.scores.Score.of(lambda score: score)
    for i, dtype in enumerate(dtypes):
        shapes = ((2 * N - 1,), (4, N), (N,))
        found = found >> every(*(numbers(dtype, *shape, seed=3 * i + j) for j, shape in enumerate(shapes)))
    return found


@pytest.mark.parametrize("kind", DTYPES)
def test_element_types(kind: str) -> None:
    check(attngen.Spec(score=of_each(DTYPES[kind]), mask=masks.causal()), *operands(n_q=N), lse=True)


def test_element_types_under_float64() -> None:
    spec = attngen.Spec(score=of_each((torch.float32, torch.bool)))
    check(spec, *operands(n_q=N, dtype=torch.float64), lse=True)


INDEXED: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Callable[..., Any]]]] = {
    "scalar": ((), lambda t: lambda score: score * t),
    "one-element": ((1,), lambda t: lambda score: score * t[0]),
    "head": ((4,), lambda t: lambda score, h: score * t[h]),
    "batch": ((2,), lambda t: lambda score, b: score * t[b]),
    "batch-and-head": ((2, 4), lambda t: lambda score, b, h: score * t[b, h]),
    "query": ((N,), lambda t: lambda score, q: score + t[q]),
    "row": ((2, 4, N), lambda t: lambda score, b, h, q: score * t[b, h, q]),
    "key": ((N,), lambda t: lambda score, kv: score + t[kv]),
    "key-of-each-batch": ((2, N), lambda t: lambda score, b, kv: score + t[b, kv]),
    "key-backwards": ((N,), lambda t: lambda score, kv, n_k: score + t[n_k - 1 - kv]),
    "key-shifted": ((N + 3,), lambda t: lambda score, kv: score + t[kv + 3]),
    "every-second-key": ((2 * N,), lambda t: lambda score, kv: score + t[2 * kv]),
    "relative": ((4, 2 * N - 1), lambda t: lambda score, h, q, kv: score + t[h, q - kv + N - 1]),
    "relative-backwards": ((2 * N - 1,), lambda t: lambda score, q, kv: score + t[kv - q + N - 1]),
    "bucketed": ((4, 9), lambda t: lambda score, h, q, kv: score + t[h, torch.clamp((q - kv) // 16, -4, 4) + 4]),
    "pair": ((N, N), lambda t: lambda score, q, kv: score + t[q, kv]),
    "pair-transposed": ((N, N), lambda t: lambda score, q, kv: score + t[kv, q]),
    "full": ((2, 4, N, N), lambda t: lambda score, b, h, q, kv: score + t[b, h, q, kv]),
    "irregular": ((7, 5), lambda t: lambda score, q, kv: score + t[(q * kv) % 7, (q + kv) % 5]),
    "diagonal": ((N, N), lambda t: lambda score, q, kv: score + t[kv, kv] * 0.5),
}
"""The shape of a tensor, and a score that reads it; test_gradients_scores has results and gradients of each."""

GROUPS = {
    "of-the-row": ("scalar", "one-element", "head", "batch", "batch-and-head", "query", "row"),
    "of-the-key": ("key", "key-of-each-batch", "key-backwards", "key-shifted", "every-second-key"),
    "of-the-distance": ("relative", "relative-backwards", "bucketed"),
    "of-the-pair": ("pair", "pair-transposed", "full"),
    "irregular": ("irregular", "diagonal"),
}


def test_every_index_class_is_in_a_group() -> None:
    assert sorted(name for group in GROUPS.values() for name in group) == sorted(INDEXED)


def test_axes_of_size_one_do_not_serve_all() -> None:
    bias = random(2, 4, N)
    kernel = kernel_of(attngen.Spec(score=lambda score, b, h, q: score * bias[b, h, q]))
    check(kernel, *operands(n_q=N))
    for shape in [(1, 4, N), (2, 1, N), (1, 1, N)]:
        bias = random(*shape)
        with pytest.raises(InputError, match=r"bias: dimension \d has 1 entries; the call has \d there"):
            kernel(*operands(n_q=N))


def test_tensors_in_masks() -> None:
    keep, limit, gate = random(2, N) > 0, torch.randint(0, N, (4,)), random(N)
    check(attngen.Spec(mask=lambda b, kv: keep[b, kv]), *operands(n_q=N), lse=True)
    check(attngen.Spec(mask=lambda h, q, kv: (kv < limit[h]) & (kv <= q)), *operands(n_q=N), lse=True)
    check(attngen.Spec(mask=lambda q, kv: gate[q] > gate[kv]), *operands(n_q=N), lse=True)


def test_a_full_boolean_mask() -> None:
    seen = random(2, 4, N, N) > 0.3
    kernel = kernel_of(attngen.Spec(mask=lambda b, h, q, kv: seen[b, h, q, kv]))
    check(kernel, *operands(n_q=N), lse=True)
    seen = torch.zeros(2, 4, N, N, dtype=torch.bool)
    check(kernel, *operands(n_q=N), lse=True)
    seen = ~seen
    check(kernel, *operands(n_q=N), lse=True)


def test_large_integers_keep_all_their_bits() -> None:
    ids = torch.randint(0, 3, (N,)) * 2**32
    try:
        check(attngen.Spec(mask=lambda q, kv: ids[q] == ids[kv]), *operands(n_q=N), lse=True)
    except UnsupportedError as problem:
        assert "32-bit integers" in str(problem)  # noqa: PT017  (refused, or right; never wrong)
    window = 10**12
    check(attngen.Spec(mask=lambda q, kv: (q - kv < window) & (kv <= q)), *operands(n_q=N), lse=True)
    shift = 2**40
    check(attngen.Spec(mask=lambda q, kv: (q + shift) // 2**39 >= kv), *operands(n_q=N), lse=True)


NAMES = (
    "out",
    "lse",
    "call",
    "args",
    "row",
    "keys",
    "k",
    "v",
    "b_",
    "a",
    "real",
    "integer",
    "Tile",
    "q_data",
    "k_size",
)


def test_names_of_captures_never_collide() -> None:
    scope: dict[str, Any] = {name: random(4, seed=i) for i, name in enumerate(NAMES)}
    exec(f"def score(score, h): return score + {' + '.join(f'{name}[h]' for name in NAMES)}", scope)
    check(attngen.Spec(score=scope["score"]), *operands(), lse=True)


@pytest.mark.parametrize(
    ("function", "shown"),
    [
        (lambda t: lambda score, kv: score + t[kv], "kv"),
        (lambda t: lambda score, q, kv: score + t[q - kv], "q - kv"),
        (lambda t: lambda score, q, kv: score + t[q + 1], "q + 1"),
    ],
    ids=["too-far", "negative", "row"],
)
def test_an_index_that_leaves_its_tensor_is_refused(function: Any, shown: str) -> None:
    table = random(50)
    with pytest.raises((BoundsError, InputError)) as caught:
        kernel_of(attngen.Spec(score=function(table)))(*operands(n_q=70))
    assert "table" in str(caught.value) or "t" in str(caught.value)
    assert shown in str(caught.value)


def test_an_index_that_the_mask_hides_may_leave_its_tensor() -> None:
    table = random(50)
    mask = masks.Mask.of(lambda kv: kv < 50)
    check(attngen.Spec(score=lambda score, kv: score + table[kv], mask=mask), *operands(n_q=70), lse=True)
    distance = random(70)
    spec = attngen.Spec(score=lambda score, q, kv: score + distance[q - kv], mask=masks.causal())
    check(spec, *operands(n_q=70), lse=True)


def test_an_index_read_from_a_tensor_is_checked_at_each_call() -> None:
    table, index = random(50), torch.zeros(70, dtype=torch.int64)
    kernel = kernel_of(attngen.Spec(score=lambda score, kv: score + table[index[kv]]))
    check(kernel, *operands())
    index[3] = 49
    check(kernel, *operands())
    for bad in (50, -1):
        index[3] = bad
        with pytest.raises((BoundsError, InputError), match="table"):
            kernel(*operands())


def test_an_empty_capture() -> None:
    table = random(0)
    with pytest.raises((BoundsError, InputError), match="table"):
        kernel_of(attngen.Spec(score=lambda score, kv: score + table[kv % 5]))(*operands())
