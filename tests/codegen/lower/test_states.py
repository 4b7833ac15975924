"""States of linear attention beside direct sums over the keys, and what fills up blocks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from attngen.codegen.lower.produced import Extents
from attngen.codegen.lower.reach import CHUNK, SHUT, TOGETHER, Classed, DecaySums, Earlier, Everything, decayed_sums
from attngen.codegen.lower.states import Names, Reach, States, blocks_of
from attngen.ir.expr import op, sym
from attngen.ir.nodes import View
from tests.strategies import PATIENT

D, DV = 3, 5


@given(st.integers(0, 20), st.integers(1, 8) | st.none())
@PATIENT
def test_blocks_are_filled_up_with_zeros(n: int, block: int | None) -> None:
    tokens = torch.arange(1, 2 * n * 3 + 1).reshape(1, 2, n, 3).double()
    found = blocks_of(tokens, block)
    size = max(1, n) if block is None else block
    assert found.shape == (1, 2, -(-n // size), size, 3)
    flat = found.flatten(2, 3)
    assert torch.equal(flat[:, :, :n], tokens)
    assert not flat[:, :, n:].any()


def states(reach: Reach, k: Tensor, v: Tensor, n_q: int, mass: bool = True, **more: Any) -> tuple[Tensor, ...]:
    """What is made for 4 heads, of placeholders of the same shapes and dtypes. `weight`: a projection."""
    small = v.dtype == torch.float16
    names = Names("units", "values", "masses" if mass or small else None, "size" if small else None)
    weight = more.get("weight")
    width = DV if weight is None else weight.shape[1]
    dtype = str(v.dtype).removeprefix("torch.")
    projection = None if weight is None else "weight"
    producer = States(names, reach, View("k"), (0, D), View("v"), (0, DV), projection, width, dtype, mass)
    named = {"k": k, "v": v, **more}
    extents = Extents(k.shape[0], 4, n_q, k.shape[2])
    shaped = producer.placeholders(named, extents)
    found = producer.make(named, {}, extents)
    assert [(t.shape, t.dtype) for t in shaped] == [(t.shape, t.dtype) for t in found]
    return found


def operands(n: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Features of keys, which are not negative, and values; two heads for four of the result."""
    generator = torch.Generator().manual_seed(n)
    k, v = (torch.randn(2, 2, n, width, generator=generator, dtype=torch.float64) for width in (D, DV))
    return k.abs().to(dtype), v.to(dtype)


def direct(k: Tensor, v: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Means of v weighted by each channel, and the sums of the channel; seen (query blocks, keys) or with more axes."""
    k, v = (t.double().repeat_interleave(2, 1) for t in (k, v))
    weights = torch.where(seen[..., None], k[:, :, None], 0.0)  # (B, H, query blocks, keys, D)
    masses = weights.sum(3)
    sums = weights.mT @ v[:, :, None]
    return (sums / torch.where(masses == 0, 1.0, masses)[..., None]).flatten(2, 3), masses.flatten(2)


@pytest.mark.parametrize("n", [0, 1, 7, 12])
def test_all_keys(n: int) -> None:
    k, v = operands(n)
    units, values, masses = states(Everything(), k, v, 9)
    exact, sums = direct(k, v, torch.ones(1, n, dtype=torch.bool))
    torch.testing.assert_close((values, masses), (exact, sums))
    assert torch.equal(units, torch.eye(D, dtype=torch.float64)[None, None])


@pytest.mark.parametrize("n", [1, 7, 12])
@pytest.mark.parametrize("mass", [True, False])
def test_classes_of_blocks(n: int, mass: bool) -> None:
    """Blocks of 4 keys, 3 blocks of queries; the table has one batch, and one row without any block."""
    k, v = operands(n)
    table = torch.randint(-1, 2, (1, 4, 3, -(-n // 4)), generator=torch.Generator().manual_seed(0))
    table[:, 1, 2] = -1
    _, values, *masses = states(Classed("table", op("ge", sym("x"), 0), 4), k, v, 9, mass, table=table)
    seen = (table >= 0).repeat_interleave(4, 3)[..., :n]
    exact, sums = direct(k, v, seen)
    torch.testing.assert_close(values, exact if mass else exact * sums[..., None])
    assert not mass or torch.equal(masses[0] == 0, sums == 0)
    assert not values[:, 1, 2 * D :].any()


def test_a_channel_without_mass_is_zero() -> None:
    k, v = operands(12)
    k[..., 1] = 0.0
    _, values, masses = states(Everything(), k, v, 9)
    assert not values[:, :, 1].any()
    assert not masses[:, :, 1].any()
    assert values.isfinite().all()


@pytest.mark.parametrize(("n_q", "n_k"), [(2 * CHUNK + 1, 2 * CHUNK + 1), (CHUNK, 3 * CHUNK), (3 * CHUNK, 5), (200, 0)])
def test_chunks_that_came_before(n_q: int, n_k: int) -> None:
    k, v = operands(n_k)
    _, values, masses = states(Earlier(), k, v, n_q)
    chunks = torch.arange(-(-n_q // CHUNK))[:, None]
    exact, sums = direct(k, v, torch.arange(n_k) // CHUNK < chunks)
    torch.testing.assert_close((values, masses), (exact, sums))


def test_projected_values() -> None:
    k, v = operands(12)
    weight = torch.randn(DV, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plain, projected = states(Everything(), k, v, 9)[1], states(Everything(), k, v, 9, weight=weight)[1]
    torch.testing.assert_close(projected, plain @ weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_up_in_float32(dtype: torch.dtype) -> None:
    """4000 keys of about 1 are no sum of bfloat16; the mean of values is rounded once."""
    k, v = operands(4000, dtype)
    _, values, masses, *size = states(Everything(), k, v, 9)
    masses = masses * size[0][..., None] if size else masses
    exact, sums = direct(k, v, torch.ones(1, 4000, dtype=torch.bool))
    assert (values.dtype, masses.dtype) == (dtype, torch.float32)
    torch.testing.assert_close(masses.double(), sums, rtol=1e-5, atol=0)
    torch.testing.assert_close(values, exact.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_blocks_that_are_in_no_sum_may_hold_anything(value: float) -> None:
    """Block 1 is in none, block 2 in that of the first queries alone."""
    k, v = operands(12)
    table = torch.tensor([[1, 0, 1], [1, 0, 0], [0, 0, 0]])[None, None]
    reach = Classed("table", op("eq", sym("x"), 1), 4)
    clean = states(reach, k, v, 9, table=table)
    for block in (1, 2):
        bad = [t.clone() for t in (k, v)]
        for t in bad:
            t[:, :, 4 * block : 4 * block + 4] = value
        for one, other in zip(states(reach, bad[0], bad[1], 9, table=table)[1:], clean[1:], strict=True):
            # States of the first block of queries come first.
            part = slice(0 if block == 1 else D, None)
            assert torch.equal(one[:, :, part], other[:, :, part])


@pytest.mark.parametrize("chunks", [0, 1, TOGETHER, TOGETHER + 3])
def test_decayed_sums(chunks: int) -> None:
    generator = torch.Generator().manual_seed(0)
    given, decays = torch.randn(1, 2, chunks, 3, generator=generator), -torch.rand(1, 2, chunks, generator=generator)
    found = decayed_sums(given, decays)
    running, expected = torch.zeros(1, 2, 3, dtype=torch.float64), []
    for i in range(chunks):
        running = running * decays[:, :, i, None].double().exp() + given[:, :, i].double()
        expected.append(running)
    exact = torch.stack(expected, 2) if expected else torch.zeros(1, 2, 0, 3)
    torch.testing.assert_close(found, exact.float(), rtol=1e-5, atol=1e-6)


def test_sums_of_decays_start_anew_in_every_chunk() -> None:
    decay = -torch.rand(2, 4, CHUNK + 3, generator=torch.Generator().manual_seed(0))
    decay[0, 0, 5] = -torch.inf
    (found,) = DecaySums("sums", "decay", "float32").make({"decay": decay}, {}, Extents(2, 4, CHUNK + 3, CHUNK + 3))
    shut = decay.clamp(min=SHUT["float32"])
    exact = torch.cat([part.cumsum(2) for part in torch.split(shut, CHUNK, 2)], 2)
    torch.testing.assert_close(found, exact)
    assert found.isfinite().all()


@pytest.mark.parametrize("mass", [True, False], ids=["mass", "no mass"])
def test_in_float16_no_number_is_large(mass: bool) -> None:
    """Sums of 130000 keys are no numbers of float16, but means, shares and one size for each head are."""
    k, v = operands(130_000, torch.float16)
    v = v.abs()
    k = k if mass else torch.where(torch.arange(D) % 2 == 0, k, -k)
    _, values, shares, size = states(Everything(), k, v, 3, mass)
    assert 0 < shares.abs().max() <= 1
    assert bool(values.isfinite().all())
    exact = (k.double().mT @ v.double()).repeat_interleave(2, 1)
    assert exact.abs().min() > 65504
    found = values.double() * (shares * size[..., None])[..., None]
    assert (found - exact).norm() <= 1e-3 * exact.norm()
