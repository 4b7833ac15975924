"""Operands that lie on the grid of a spec: the same bits as with one axis of tokens, and gradients of their shape."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import mechanisms
from attngen.errors import InputError
from tests.end_to_end.gradients import check_gradients
from tests.end_to_end.oracle import check, operands

DIMS = (3, 4, 5)
SPEC = mechanisms.neighborhood(DIMS, (3, 2, 3))


def kernel(layout: Any = "bhnd", backend: str = "reference") -> attngen.Kernel:
    return attngen.compile(SPEC, layout=layout, backend=backend)


def laid_out(layout: str, *tensors: Tensor) -> list[Tensor]:
    """Contiguous tensors on the grid."""
    heads_last = layout == "bnhd"
    flat = [t.transpose(1, 2).contiguous() if heads_last else t for t in tensors]
    return [t.unflatten(1 if heads_last else 2, DIMS) for t in flat]


@pytest.mark.cxx
@pytest.mark.parametrize("layout", ["bhnd", "bnhd"])
def test_on_the_grid_it_is_the_same(layout: str) -> None:
    flat, lse = kernel(backend="cpu")(*operands(n_q=60, dv=7), return_lse=True)
    on_grid = kernel(layout, "cpu")
    qkv = laid_out(layout, *operands(n_q=60, dv=7))
    out, on_grid_lse = on_grid(*qkv, return_lse=True)
    assert torch.equal(out, laid_out(layout, flat)[0])
    assert out.is_contiguous()
    assert torch.equal(on_grid_lse, lse.unflatten(2, DIMS))
    check(on_grid, *qkv)
    found = check_gradients(on_grid, *qkv, lse=True)
    assert [found[name].shape for name in "qkv"] == [t.shape for t in qkv]


@pytest.mark.cxx
def test_nothing_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine gets the memory that was given, and the result is a view of what it gave."""
    q, k, v = laid_out("bnhd", *operands(n_q=60))
    made = kernel("bnhd", "cpu")
    engine, seen = made.engine(), []
    forward = engine.forward
    monkeypatch.setattr(type(engine), "forward", lambda self, *given: seen.append(given[:3]) or forward(*given))
    made(q, k, v)
    assert [t.data_ptr() for t in seen[0]] == [t.data_ptr() for t in (q, k, v)]
    assert [t.shape for t in seen[0]] == [t.flatten(1, 3).shape for t in (q, k, v)]


def test_a_part_of_a_batch_and_of_the_channels_is_a_view() -> None:
    whole = torch.randn(3, 2, *DIMS, 24)
    q, k, v = whole[:2].split(8, -1)
    flat = [t.flatten(2, 4) for t in (q, k, v)]
    assert torch.equal(kernel()(q, k, v).flatten(2, 4), kernel()(*flat))
    explained = str(kernel().explain(q, k, v))
    assert "60 queries x 60 keys (grid 3x4x5)" in explained


def test_a_dimension_of_one_has_any_stride() -> None:
    made = attngen.compile(attngen.Spec(space=attngen.Grid(1, 6)), backend="reference")
    q, k, v = (torch.randn(1, 2, 6, 4).as_strided((1, 2, 1, 6, 4), (48, 24, 7, 4, 1)) for _ in range(3))
    assert made(q, k, v).shape == (1, 2, 1, 6, 4)


def test_attention_in_one_call_and_under_torch_func() -> None:
    q, k, v = laid_out("bhnd", *operands(n_q=60))
    out = attngen.attention(q, k, v, space=attngen.Grid(DIMS), backend="reference")
    assert out.shape == (2, 4, *DIMS, 16)
    grad = torch.func.grad(lambda q: kernel()(q, k, v).sum())(q)
    assert grad.shape == q.shape


ON_GRID, OTHER = torch.randn(1, 2, *DIMS, 8), torch.randn(1, 2, 60, 8)
BAD = [
    (
        (ON_GRID, OTHER, OTHER),
        "k: got shape (1, 2, 60, 8); on the grid, layout 'bhnd' is (B, H, 3, 4, 5, D)",
    ),
    (
        (ON_GRID[:, :, :, :, :4], ON_GRID, ON_GRID),
        "q: got shape (1, 2, 3, 4, 4, 8); on the grid, layout 'bhnd' is (B, H, 3, 4, 5, D)",
    ),
    (
        (ON_GRID, torch.randn(1, 2, 3, 4, 6, 8)[:, :, :, :, 1:], ON_GRID),
        "k: rows of the grid do not lie one after the other in memory (strides (1152, 576, 192, 48, 8, 1)), and no "
        "kernel copies its operands; give k.contiguous()",
    ),
]


@pytest.mark.parametrize(("qkv", "message"), BAD, ids=range(len(BAD)))
def test_what_does_not_fit(qkv: tuple[Tensor, ...], message: str) -> None:
    with pytest.raises(InputError) as caught:
        kernel()(*qkv)
    assert str(caught.value) == message
