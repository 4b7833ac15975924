"""Gradients in Triton: tiles and memory of kernels, heads, key sets, branches, and what is kept between calls."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from tests.runtime.triton_processes import told

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
Said = dict[str, dict[str, Any]]
BOUND = 1e-5


@pytest.fixture(scope="module")
def said() -> Said:
    """What the worker found."""
    (found,) = told("tests.codegen.backends.triton.gradient_calls", ())
    return found


def found_by(said: Said, name: str) -> dict[str, Any]:
    assert "failed" not in said[name], said[name]["failed"]
    return said[name]


@pytest.mark.parametrize(
    "name",
    [
        "tiles_of_other_sizes",
        "memory_that_nobody_wrote",
        "heads_and_batches",
        "key_sets",
        "branches_on_a_grid",
        "again",
        "rows_with_one_key",
        "all_pairs_in_one_place",
    ],
)
def test_against_the_reference(said: Said, name: str) -> None:
    errors = found_by(said, name)["errors"]
    assert errors
    assert all(max(each) <= BOUND for each in errors.values()), errors


def test_a_graph_that_is_kept(said: Said) -> None:
    assert found_by(said, "again")["same"]


def test_nan_in_one_row(said: Said) -> None:
    assert found_by(said, "a_number_that_is_none")["shown"]
