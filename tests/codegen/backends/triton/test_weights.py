"""Weights of exponentials: one multiply-add for each pair in machine code, and right at scores of every size."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from attngen.codegen.backends.triton.config import TritonConfig
from tests.codegen.backends.triton.ledger import build
from tests.codegen.backends.triton.matrix import source
from tests.runtime.triton_processes import told

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
Said = dict[str, dict[str, Any]]
NARROW = TritonConfig(128, 32, 8, 2, "tf32x3")
"""Tiles of pairs that have not the shape of the accumulator."""


def arithmetic(ttgir: str, rows: int, columns: int) -> Counter[str]:
    """The operators that work on a whole tile of pairs, in the last loop."""
    loop = ttgir[ttgir.rindex(" scf.for ") :]
    loop = loop[: loop.index("scf.yield")]
    return Counter(re.findall(rf"\b((?:arith|math)\.\w+) .* : tensor<{rows}x{columns}xf32, \S+> loc", loop))


@pytest.mark.parametrize(("d", "config", "columns"), [(64, NARROW, 32), (128, None, 64)])
def test_a_forward_has_one_multiply_add_for_each_pair(
    d: int, config: TritonConfig | None, columns: int, tmp_path: Path
) -> None:
    found = arithmetic(build(source("causal", "sm_90", d, "forward", config=config), tmp_path).ttgir, 128, columns)
    assert found == {"math.fma": 1, "math.exp2": 1}


@pytest.mark.parametrize(("dtype", "guards", "factors"), [("bf16", 1, 2), ("fp16", 0, 3)])
def test_a_backward_has_one_before_the_exponential(dtype: str, guards: int, factors: int, tmp_path: Path) -> None:
    """Half precision has finite products, so nothing looks whether they are; its gradients need the scale early."""
    binary = build(source("causal", "sm_90", 128, "queries", dtype), tmp_path)
    found = arithmetic(binary.ttgir, 128, 64)
    # A factor, a sum and a product make the gradient of a score of its weight.
    expected = {"math.fma": 1, "math.exp2": 1, "arith.minimumf": guards, "arith.mulf": factors, "arith.addf": 1}
    assert found == Counter({name: count for name, count in expected.items() if count})


@pytest.fixture(scope="module")
def said() -> Said:
    """What the worker found."""
    (found,) = told("tests.codegen.backends.triton.extreme_scores", ())
    return found


def found_by(said: Said, name: str) -> dict[str, Any]:
    assert "failed" not in said[name], said[name]["failed"]
    return said[name]


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("one_size", 2e-6),
        ("rows_of_every_size", 2e-6),
        ("rows_that_grow", 2e-6),
        ("neighbours", 2e-6),
        ("large", 2e-6),
        ("sinks", 2e-6),
        ("programs", 2e-6),
        ("halves", 5e-2),
    ],
)
def test_scores_of_every_size(said: Said, name: str, bound: float) -> None:
    errors = found_by(said, name)["errors"]
    assert errors
    assert all(error <= bound for each in errors.values() for error in each.values()), errors


def test_products_beyond_float32(said: Said) -> None:
    found = found_by(said, "infinite")
    found.pop("name")
    for kind, each in found.items():
        assert each["finite"], kind
        assert each["nothing"], kind
        assert each["no gradient"], kind
        assert each["others"] <= (2e-6 if "float32" in kind else 5e-2), kind
