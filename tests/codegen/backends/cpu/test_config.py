"""Which tiles a plan gets."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import attngen
from attngen import masks
from attngen.codegen.backends.cpu.config import GROUP_NUMBERS, Reach, default, reach
from tests.codegen.plans import plan_of

IDS = torch.arange(64).reshape(1, 64) // 7


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (None, "all"),
        (masks.causal(), "prefix"),
        (masks.prefix(5), "prefix"),
        (masks.causal() | masks.prefix(5), "prefix"),
        (masks.sliding_window(9), "some"),
        (masks.document(IDS), "some"),
        (masks.Mask.of(lambda q, kv: (q * kv) % 3 != 1), "some"),
    ],
)
def test_the_class_of_a_mask(mask: Any, expected: Reach) -> None:
    elements = {"ids": ("int64", 2)} if expected == "some" else {}
    assert reach(plan_of(attngen.Spec(mask=mask), **elements)) == expected


@pytest.mark.parametrize("width", [16, 64, 128, 512])
def test_a_group_fits_into_the_cache(width: int) -> None:
    config = default("avx512", plan_of(attngen.Spec(), d=width, dv=width))
    assert config.group == 1 or config.group * config.query_tile * 2 * width <= GROUP_NUMBERS
    assert (config.group == 16) == (width <= 128)
