"""The biased-rounding experiment: what it shows, and what the adjusted anchor removes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import attngen
from attngen import normalizers
from attngen.codegen.backends.cpu import compiler
from attngen.normalizers.softmax import ADJUSTED
from attngen.verification.numerics_bias import gone, run_kernel, weights_of
from attngen.verification.numerics_rounding import Bias, biases, flash, tied_rows
from attngen.verification.subject import Subject


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Most tensors here are small: more threads would only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_rows_tie_at_their_maximum() -> None:
    rows = tied_rows(count=64)
    score = rows.score[:, 0, 0]
    top = score.amax(-1, keepdim=True)
    assert bool(((score == top).sum(-1) == 2).all())
    assert float((top - score.sort(-1).values[:, -3:-2]).min()) >= 6.9
    assert bool((rows.v[..., :16] < 0).all())
    assert bool((rows.upstream[..., :16] <= 0).all())


@pytest.mark.parametrize("seed", range(3))
def test_the_adjusted_anchor_removes_the_bias(seed: int) -> None:
    rows = tied_rows(seed)
    plain, adjusted = (flash(rows, offset, torch.bfloat16) for offset in (0.0, ADJUSTED))
    for name in ("P V", "O", "delta"):
        before, after = plain[name], adjusted[name]
        assert abs(before.z) > 30
        assert before.steps in (0.0, 1.0)
        # With all that chance may hide, a few hundredths are left.
        assert abs(after.mean) + 2 * after.error < 0.07 * abs(before.mean)
        assert 0.2 < after.steps < 0.8
    assert (plain["P V"].mean < 0, plain["delta"].mean > 0) == (True, True)
    assert abs(plain["P"].z) < 5
    assert abs(adjusted["P"].z) < 5


def test_sums_in_float32_have_no_bias_to_remove() -> None:
    rows = tied_rows()
    for offset in (0.0, ADJUSTED):
        found = flash(rows, offset, torch.float32)
        assert abs(found["O"].z) < 5
        assert abs(found["delta"].z) < 5


def test_a_bias_is_a_mean_over_independent_rows() -> None:
    random = torch.Generator().manual_seed(1)
    errors = torch.randn(6400, 1, generator=random).expand(6400, 50)
    bias = Bias.of(errors)
    assert bias.error == pytest.approx(1 / 80, rel=0.05)
    assert abs(bias.z) < 4
    shifted = Bias.of(errors + 1)
    assert shifted.z > 50
    assert shifted.steps == 1.0
    assert gone(bias, shifted)
    assert not gone(shifted, shifted)


@pytest.mark.cxx
@pytest.mark.skipif(isinstance(compiler.find(), compiler.NoCompiler), reason="no C++ compiler")
def test_kernels_are_not_biased() -> None:
    rows = tied_rows()
    plain = flash(rows, 0.0, torch.bfloat16)
    one = Subject.of(attngen.mechanisms.full(), "cpu", "cpu", True, None)
    for adjusted in (False, True):
        where, out = run_kernel(one, rows, adjusted)
        assert where.startswith("cpu kernel, ")
        for name, bias in biases(rows, out).items():
            assert abs(bias.z) < 5, (where, name, bias)
            assert gone(bias, plain[name])


@pytest.mark.cxx
@pytest.mark.isa("avx2")
def test_kernels_with_bf16_dot_products_are_not_biased(tmp_path: Path) -> None:
    """With AVX-512's bf16 dot products, emulated, P is rounded to bf16 on its way into the second product."""
    from attngen.codegen.backend import Call
    from attngen.codegen.backends.cpu.config import default
    from attngen.codegen.backends.cpu.emit import emit
    from attngen.codegen.backends.cpu.launch import prepare
    from attngen.codegen.plan import make_plan
    from tests.cpp.test_avx512 import emulated

    rows = tied_rows()
    for adjusted in (None, "adjusted"):
        kernel = attngen.compile(attngen.Spec(normalizer=normalizers.softmax(numerics=adjusted)))  # type: ignore[arg-type]
        problem = kernel.engine().problem(rows.q, rows.k, rows.v, [], False)
        plan = make_plan(kernel.spec.ir, problem)
        config = default("avx512_bf16", plan)
        folder = tmp_path / str(adjusted)
        folder.mkdir()
        function = emulated(emit(plan, config).text, True, folder)
        call = Call(rows.q.shape[0], 1, 1, rows.k.shape[2], "bhnd", (rows.q, rows.k, rows.v))
        out = prepare(function, config, plan, call)(rows.q, rows.k, rows.v, [], ())[0]
        for name, bias in biases(rows, out).items():
            assert abs(bias.z) < 5, (adjusted, name, bias)


def test_what_kernels_do_with_their_weights() -> None:
    assert "rounds P to bf16" in weights_of("cpu kernel, avx512_bf16")
    assert "keeps P in float32" in weights_of("cpu kernel, avx2")
    assert "float64" in weights_of("reference kernel, dense")
