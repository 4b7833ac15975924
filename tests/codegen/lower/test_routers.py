"""Rankings of blocks: the best of a row beside a stable sort, means of blocks, scores that are no numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from attngen.codegen.lower.produced import Extents
from attngen.codegen.lower.routers import Classes, best, block_means
from attngen.errors import InputError
from attngen.ir.nodes import Given, PooledTopK, Router
from tests.strategies import PATIENT

NAN, INF = float("nan"), float("inf")


def ranked(scores: Tensor, count: int) -> Tensor:
    """The first `count` of a stable sort, best first."""
    order = scores.sort(dim=-1, descending=True, stable=True).indices[..., :count]
    return torch.zeros(scores.shape, dtype=torch.bool).scatter(-1, order, True)


@given(st.lists(st.sampled_from([-INF, -1.0, -0.0, 0.0, 0.5, 1.0, INF]), min_size=1, max_size=12), st.data())
@PATIENT
def test_ties_go_to_the_first(row: list[float], data: st.DataObject) -> None:
    scores, count = torch.tensor([row, row[::-1]]), data.draw(st.integers(1, len(row)))
    assert torch.equal(best(scores, count), ranked(scores, count))


@given(st.integers(1, 12), st.integers(0, 100), st.sampled_from([(1.0, 0.0), (0.3, 0.2), (0.5, 0.5), (0.1, 0.9)]))
@PATIENT
def test_classes_of_keys_that_repeat(blocks: int, seed: int, shares: tuple[float, float]) -> None:
    """Small whole numbers tie in many ways, at both ends of a row."""
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randint(-1, 2, (2, h, n, 2), generator=generator).float() for h, n in ((4, 3), (2, blocks)))
    top = max(1, int(shares[0] * blocks))
    bottom = min(int(shares[1] * blocks), blocks - top)
    (found,) = made(PooledTopK(*shares), q, k, blocks=(1, 1))
    rank = (q @ k.repeat_interleave(2, 1).mT).sort(dim=-1, descending=True, stable=True).indices.argsort(-1)
    assert found.dtype == torch.int8
    assert torch.equal(found, ((rank < top).int() - (rank >= blocks - bottom).int()).to(torch.int8))


def made(
    rule: PooledTopK | Given, q: Tensor, k: Tensor, blocks: tuple[int, int] = (2, 3), **more: Tensor
) -> tuple[Tensor, ...]:
    """What the producer makes, after its placeholders are compared with it."""
    producer = Classes(Router("blocks", *blocks, rule), "int8")
    named = {"q": q, "k": k, **more}
    extents = Extents(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    shapes = [t.shape for t in producer.placeholders(named, extents)]
    found = producer.make(named, {}, extents)
    assert [t.shape for t in found] == shapes
    return found


@pytest.mark.parametrize("n", [1, 4, 5, 11, 12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_means_of_blocks(n: int, dtype: torch.dtype) -> None:
    """A short last block is the mean of what it has; half precision is summed up in float32."""
    tokens = torch.randn(2, 3, n, 5, generator=torch.Generator().manual_seed(n)).to(dtype)
    found = block_means(tokens, 4)
    exact = torch.stack([part.double().mean(2) for part in torch.split(tokens, 4, 2)], 2)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=1e-6)


def test_means_of_nothing() -> None:
    assert block_means(torch.zeros(2, 3, 0, 5), 4).shape == (2, 3, 0, 5)


def test_scores_that_are_no_numbers_are_in_the_top() -> None:
    """Whoever sees such a key shows it; in a class that nobody sees it would be hidden."""
    q, k = torch.ones(1, 1, 2, 4), torch.zeros(1, 1, 9, 4)
    k[:, :, 7] = NAN
    (found,) = made(PooledTopK(0.34, 0.34), q, k)
    assert found.tolist() == [[[[0, -1, 1]]]]


def test_the_mean_of_all_keys_changes_no_order() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 4, 7, 8, generator=generator), torch.randn(2, 2, 31, 8, generator=generator)
    plain, smooth = (made(PooledTopK(0.3, 0.4, smooth), q, k)[0] for smooth in (False, True))
    assert torch.equal(plain, smooth)


def test_a_given_table_is_passed_on() -> None:
    table = torch.zeros(1, 4, 4, 11, dtype=torch.int8)
    q, k = torch.zeros(2, 4, 7, 8), torch.zeros(2, 2, 31, 8)
    (found,) = made(Given("table"), q, k, table=table)
    assert found.data_ptr() == table.data_ptr()
    assert found is not table
    for shape in ((1, 4, 4, 10), (2, 2, 4, 11), (1, 1, 1, 11)):
        with pytest.raises(InputError, match=r"table: got shape .*; \(2, 4, 4, 11\) is needed, or 1 for batches and"):
            made(Given("table"), q, k, table=torch.zeros(shape, dtype=torch.int8))
