"""Head dimensions that fill no vector, or many."""

from __future__ import annotations

import pytest
import torch

import attngen
from attngen import masks, normalizers
from tests.end_to_end.oracle import BOUND, check, operands

pytestmark = pytest.mark.cxx

WIDTHS = [(8, 17), (128, 64), (512, 80), (80, 512)]
"""Beside those of test_gradients_shapes, with results and gradients of one channel and of a few."""
LOW = [
    *((widths, torch.bfloat16) for widths in [(1, 1), (3, 17), (129, 64), (512, 511)]),
    *((widths, dtype) for widths, dtype in [((3, 17), torch.float16), ((17, 3), torch.float64)]),
]


def shown(widths: tuple[int, int]) -> str:
    return f"{widths[0]}x{widths[1]}"


@pytest.mark.parametrize("widths", WIDTHS, ids=shown)
def test_float32(widths: tuple[int, int]) -> None:
    d, dv = widths
    check(attngen.Spec(mask=masks.causal()), *operands(n_q=70, n_k=151, d=d, dv=dv), lse=True)


@pytest.mark.parametrize(
    ("widths", "dtype"), LOW, ids=[f"{shown(widths)}-{str(dtype).removeprefix('torch.')}" for widths, dtype in LOW]
)
def test_other_types(widths: tuple[int, int], dtype: torch.dtype) -> None:
    d, dv = widths
    check(attngen.Spec(mask=masks.causal()), *operands(n_q=70, n_k=151, d=d, dv=dv, dtype=dtype), lse=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_sum_of_values_in_odd_widths(dtype: torch.dtype) -> None:
    spec = attngen.Spec(mask=masks.causal(), normalizer=normalizers.affine(0.5, 0.01))
    check(spec, *operands(n_q=70, n_k=151, d=17, dv=33, dtype=dtype), lse=True, bound=BOUND[dtype])
