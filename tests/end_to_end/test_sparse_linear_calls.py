"""Sparse-linear attention inside torch: threads, torch.compile, autocast, checkpoints, single gradients, errors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import attngen
from attngen.errors import InputError
from tests.end_to_end.gradients import leaf
from tests.end_to_end.oracle import BACKEND, error, kernel_of, operands, random
from tests.end_to_end.sparse_linear import DV, D, spec_of, table_of

pytestmark = [pytest.mark.cxx, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]
N_Q, N_K = 100, 330
TABLE = table_of(1, 4, N_Q, N_K)


@pytest.fixture
def threads() -> Iterator[Any]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def leaves(n_q: int = N_Q, n_k: int = N_K) -> list[Tensor]:
    """q, k, v and a projection."""
    return [leaf(t) for t in (*operands(n_q=n_q, n_k=n_k, d=D, dv=DV), random(DV, DV))]


KERNEL = attngen.compile(spec_of(), backend=BACKEND)


def attend(q: Tensor, k: Tensor, v: Tensor, weight: Tensor) -> Any:
    return KERNEL(q, k, v, block_classes=TABLE, projection=weight)


def step(call: Any, by: list[Tensor]) -> list[Tensor]:
    """The result, and the gradients of a sum with weights."""
    out = call(*by)
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(4)).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, by, cotangent)]


def same(found: list[Tensor], expected: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("topk", ["table", 0.3])
def test_same_input_same_bits(topk: Any, threads: Any) -> None:
    kernel = kernel_of(spec_of(topk=topk, bottom=0.0 if topk == "table" else 0.4))
    table: dict[str, Any] = {"block_classes": TABLE} if topk == "table" else {}
    by, found = leaves(), []
    for count in (1, 2, 5, 1, 1):
        threads(count)
        found.append(step(lambda q, k, v, weight: kernel(q, k, v, projection=weight, **table), by))
    assert all(same(one, found[0]) for one in found)


def test_inputs_are_not_changed_and_read_anew() -> None:
    by, table = leaves(), TABLE.clone()
    before = [t.detach().clone() for t in (*by, table)]
    kernel = kernel_of(spec_of())
    first = kernel(*by[:3], block_classes=table, projection=by[3])
    assert same([*by, table], before)
    table.fill_(1)
    with torch.no_grad():
        by[3].zero_()
    exact = kernel.reference(*by[:3], block_classes=table, projection=by[3])
    second = kernel(*by[:3], block_classes=table, projection=by[3])
    assert error(second, exact) <= 1e-5
    assert not torch.equal(first, second)


def test_compiled_as_one_graph() -> None:
    torch._dynamo.reset()
    by = leaves()
    found = step(torch.compile(attend, fullgraph=True), by)
    for one, other in zip(found, step(attend, by), strict=True):
        torch.testing.assert_close(one, other)
    torch._dynamo.reset()


def test_autocast() -> None:
    """q, k and v are cast; what is made of them is the same as without autocast."""
    by = leaves()
    by[3] = leaf(by[3].detach().bfloat16())
    expected = step(attend, [leaf(t.detach().bfloat16()) for t in by])
    with torch.autocast("cpu", torch.bfloat16):
        found = step(attend, by)
    assert found[0].dtype == torch.bfloat16
    assert all(t.dtype == torch.float32 for t in found[1:4])
    assert same(found, [t.to(one.dtype) for t, one in zip(expected, found, strict=True)])


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpoint(reentrant: bool) -> None:
    by = leaves()
    expected = step(attend, by)
    assert same(step(lambda *given: checkpoint(attend, *given, use_reentrant=False), by), expected)
    out: Any = checkpoint(attend, *by, use_reentrant=reentrant)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(4)))
    assert same([t.grad for t in by if t.grad is not None], expected[1:])


@pytest.mark.parametrize("chosen", [*itertools.combinations(range(4), 1), (0, 3), (1, 2)])
def test_gradients_by_some_inputs_only(chosen: tuple[int, ...]) -> None:
    every = step(attend, leaves())[1:]
    by = [t if i in chosen else t.detach() for i, t in enumerate(leaves())]
    out = attend(*by)
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(4))
    found = torch.autograd.grad(out, [by[i] for i in chosen], cotangent)
    for i, gradient in zip(chosen, found, strict=True):
        assert error(gradient, every[i].double()) <= 1e-6


def test_one_tensor_as_queries_and_keys() -> None:
    x, v, weight = leaf(random(2, 4, 50, D)), random(2, 4, 50, DV), random(DV, DV)
    cotangent = random(2, 4, 50, DV, seed=5)
    results = [
        call(x, x, v, block_classes=TABLE[..., :3, :2], projection=weight) for call in (KERNEL, KERNEL.reference)
    ]
    found, exact = (torch.autograd.grad(out, x, cotangent.to(out.dtype))[0] for out in results)
    assert error(found, exact) <= 1e-5


def test_feature_maps_and_rankings_share_a_kernel() -> None:
    """They are no part of the loop, so that another one is not built."""
    q, k, v, weight = (t.detach() for t in leaves())
    found = set()
    for feature, bottom in (("softmax", 0.0), ("elu", 0.4), ("squared", 0.2)):
        engine = kernel_of(spec_of(feature=feature, topk=0.3, bottom=bottom)).engine()
        found.add(engine.compiled(q, k, v, [weight], False).built.directory)
    assert len(found) == 1


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (1, 4, 5, 8),
            r"got shape \(1, 4, 5, 8\); \(2, 4, 5, 9\) is needed, or 1 for batches and heads",
        ),
        ((1, 2, 5, 9), r"block_classes: dimension 1 has 2 entries; the call has 4 there \(h\)"),
        ((3, 4, 5, 9), r"block_classes: dimension 0 has 3 entries; the call has 2 there \(b\)"),
        ((1, 1, 1, 9), r"block_classes: got shape \(1, 1, 1, 9\)"),
        ((5, 9), "block_classes: "),
    ],
)
def test_tables_of_other_shapes(shape: tuple[int, ...], message: str) -> None:
    q, k, v, weight = leaves()
    with pytest.raises(InputError, match=message):
        kernel_of(spec_of())(q, k, v, block_classes=torch.zeros(shape, dtype=torch.int8), projection=weight)


def test_tables_of_floats() -> None:
    q, k, v, weight = leaves()
    with pytest.raises(InputError, match="block_classes"):
        kernel_of(spec_of())(q, k, v, block_classes=TABLE.float(), projection=weight)


def test_missing_inputs() -> None:
    q, k, v, weight = leaves()
    with pytest.raises(InputError, match="projection"):
        kernel_of(spec_of())(q, k, v, block_classes=TABLE)
    with pytest.raises(InputError, match="block_classes"):
        kernel_of(spec_of())(q, k, v, projection=weight)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((DV - 1, DV), f"projection: got {DV - 1} rows; the values are {DV} wide"),
        ((DV, DV + 2), f"projection: got {DV + 2} columns; it is added to a result that is {DV} wide"),
        ((DV,), "projection: "),
    ],
)
def test_projections_of_other_shapes(shape: tuple[int, ...], message: str) -> None:
    q, k, v, _ = leaves()
    with pytest.raises(InputError, match=message):
        attngen.compile(spec_of(), backend=BACKEND)(q, k, v, block_classes=TABLE, projection=torch.zeros(shape))
