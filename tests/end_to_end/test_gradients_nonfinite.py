"""What nobody sees reaches no gradient: NaN and infinity in absent keys and empty rows; huge scores stay finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks, normalizers
from tests.end_to_end.gradients import check_gradients
from tests.end_to_end.oracle import error, kernel_of, operands, random
from tests.kinds import some

pytestmark = pytest.mark.cxx
NAN, INF = float("nan"), float("inf")
N, HEADS = 130, 4
EMPTY = torch.arange(N) % 7 == 3
"""Rows that see nothing."""
UNSEEN = torch.arange(N) % 5 == 1
"""Keys that nobody sees."""

SINK = random(HEADS).requires_grad_()
RULES: dict[str, Callable[[], Any]] = {
    "softmax": lambda: normalizers.softmax(sink=SINK),
    "sigmoid": lambda: normalizers.sigmoid(SINK),
    "affine": lambda: normalizers.affine(SINK, 0.1),
    "lssar": lambda: normalizers.lssar(power=2, offset=0.5),
    "entmax": lambda: normalizers.entmax(1.5),
    "stick-breaking": lambda: normalizers.stick_breaking(),
}
SCORE = "score * rows[h, q] + keys[h, kv] + pairs[q, kv]"
GIVEN = {"rows": random(HEADS, N), "keys": random(HEADS, N, seed=2), "pairs": random(N, N, seed=3)}


def mask(q: Any, kv: Any) -> Any:
    return (kv <= q) & (q % 7 != 3) & (kv % 5 != 1)


def kernel(name: str) -> attngen.Kernel:
    return kernel_of(attngen.Spec(mask=mask, score=SCORE, normalizer=RULES[name]()))


def poisoned(t: Tensor, where: Tensor, axis: int, value: float) -> Tensor:
    """The tensor with the value in the places of an axis."""
    shape = [1] * t.dim()
    shape[axis] = -1
    return torch.where(where.reshape(shape), value, t)


def run(call: Any, dout: Tensor, **given: Tensor) -> dict[str, Tensor]:
    """The gradients of everything that is given, and of the sink where it has one."""
    leaves = {name: t.detach().requires_grad_() for name, t in given.items()}
    named = {**leaves, "sink": SINK}
    found = torch.autograd.grad(call(**leaves), [*named.values()], dout, allow_unused=True)
    return {name: g for name, g in zip(named, found, strict=True) if g is not None}


@pytest.mark.parametrize("name", some(RULES, "sigmoid", "entmax"))
def test_nothing_leaks(name: str) -> None:
    call = kernel(name)
    given = dict(zip("qkv", operands(n_q=N, d=20, dv=13), strict=True)) | GIVEN
    dout = torch.randn(2, HEADS, N, 13, generator=torch.Generator().manual_seed(1))
    clean = run(call, dout, **given)
    seen = mask(torch.arange(N)[:, None], torch.arange(N))
    for value in (NAN, INF, -INF):
        bad = {"q": poisoned(given["q"], EMPTY, 2, value), "rows": poisoned(given["rows"], EMPTY, 1, value)}
        bad |= {name: poisoned(given[name], UNSEEN, axis, value) for name, axis in (("k", 2), ("v", 2), ("keys", 1))}
        bad["pairs"] = torch.where(seen, given["pairs"], value)
        found = run(call, poisoned(dout, EMPTY, 2, value), **bad)
        for part, gradient in found.items():
            assert gradient.isfinite().all(), f"{part} with {value}"
            assert error(gradient, clean[part].double()) <= 2e-6, f"{part} with {value}"
    absent = clean["q"][:, :, EMPTY], clean["k"][:, :, UNSEEN], clean["v"][:, :, UNSEEN], clean["pairs"][~seen]
    assert not any(t.any() for t in (*absent, clean["rows"][:, EMPTY], clean["keys"][:, UNSEEN]))


@pytest.mark.parametrize("name", RULES)
def test_against_the_reference(name: str) -> None:
    by = {"sink": SINK} if name in ("softmax", "sigmoid", "affine") else {}
    check_gradients(kernel(name), *operands(n_q=N, d=20, dv=13), by=by, lse=name in ("softmax", "affine"), **GIVEN)


def test_a_batch_whose_rows_all_see_nothing() -> None:
    lengths = torch.tensor([0, 70])
    call = kernel_of(attngen.Spec(mask=masks.lengths(lengths), normalizer=normalizers.softmax(sink=SINK)))
    q, k, v = operands()
    for t in (q, k, v):
        t[0] = NAN
    found = check_gradients(call, q, k, v, by={"sink": SINK}, lse=True)
    assert not any(found[name][0].any() for name in "qkv")


def test_all_rows_empty() -> None:
    table = random(HEADS).requires_grad_()
    spec = attngen.Spec(mask=lambda q, kv: (kv < q) & (kv > q), score=lambda score, h: score * table[h])
    found = check_gradients(spec, *operands(), by={"table": table}, lse=True)
    assert not any(t.any() for t in found.values())


def test_scores_of_minus_infinity_are_absent() -> None:
    bias = torch.where(torch.arange(N) % 7 == 5, -INF, random(N)).requires_grad_()
    q, k, v = operands(n_q=N)
    k, v = (poisoned(t, torch.arange(N) % 7 == 5, 2, NAN) for t in (k, v))

    for rule in ("softmax", "softplus_l1"):
        spec = attngen.Spec(
            score=lambda score, kv: torch.where(bias[kv] == -INF, -INF, score + bias[kv]), normalizer=rule
        )
        found = check_gradients(spec, q, k, v, by={"bias": bias})
        assert not found["bias"][5::7].any()


def test_a_guarded_logarithm_has_no_gradient_where_it_is_not_taken() -> None:
    t = torch.tensor([0.0, 1.0, -2.0, 3.0], requires_grad=True)
    spec = attngen.Spec(score=lambda score, h: score + torch.where(t[h] > 0, torch.log(t[h]), 0.0) * score)
    call = kernel_of(spec)
    (found,) = torch.autograd.grad(call(*operands()).square().sum(), t)
    assert found.isfinite().all()
    assert found[[0, 2]].eq(0).all()
    assert found[[1, 3]].ne(0).all()


def test_values_that_are_seen_do_show() -> None:
    call = kernel_of(attngen.Spec(mask=masks.causal()))
    q, k, v = operands(n_q=N)
    found = run(call, torch.ones(2, HEADS, N, 16), q=q, k=k, v=poisoned(v, torch.arange(N) == 77, 2, NAN))
    assert found["q"][:, :, 77:].isnan().all()
    assert found["q"][:, :, :77].isfinite().all()
    assert found["v"].isfinite().all()
    dout = torch.ones(2, HEADS, N, 16)
    dout[:, :, 50] = INF
    found = run(call, dout, q=q, k=k, v=v)
    assert not found["v"][:, :, :51].isfinite().any()
    assert found["v"][:, :, 51:].isfinite().all()
    assert found["k"][:, :, 51:].isfinite().all()


@pytest.mark.parametrize("size", [1e2, 1e4, 1e9, 1e18, 1e30])
def test_huge_scores_give_finite_gradients(size: float) -> None:
    call = kernel_of(attngen.Spec(mask=masks.causal()))
    q, k, v = operands(n_q=N)
    found = run(call, torch.ones(2, HEADS, N, 16), q=q * size, k=k, v=v)
    exact = run(call.reference, torch.ones(2, HEADS, N, 16).double(), q=q * size, k=k, v=v)
    assert all(t.isfinite().all() for t in found.values())
    # Differences of scores are rounded before they are exponentiated.
    assert error(found["v"], exact["v"]) <= max(1e-5, 3e-7 * size)


def test_scores_beyond_float32_are_never_nan() -> None:
    call = kernel_of(attngen.Spec(mask=masks.causal()))
    q, k, v = operands(n_q=N)
    for sign in (1.0, -1.0):
        found = run(call, torch.ones(2, HEADS, N, 16), q=q.abs() * 1e25, k=k.abs() * 1e25 * sign, v=v)
        assert found["v"].isfinite().all()
        assert not any(t.isnan().any() for t in found.values())


def test_tiny_operands() -> None:
    call = kernel_of(attngen.Spec(mask=masks.causal()))
    q, k, v = operands(n_q=N)
    for size in (1e-10, 1e-18):
        check_gradients(call, q * size, k * size, v, lse=True)
