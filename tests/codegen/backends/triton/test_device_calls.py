"""Graphs that are replayed follow their inputs, and what tensors of a device must not hold is found."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from tests.runtime.triton_processes import told

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
BOUND = 1e-5


@pytest.fixture(scope="module")
def said() -> dict[str, dict[str, Any]]:
    """What the worker found."""
    (found,) = told("tests.codegen.backends.triton.device_calls", ())
    for name, one in found.items():
        assert "failed" not in one, f"{name}: {one['failed']}"
    return found


@pytest.mark.parametrize("name", ["documents", "blocks", "lengths", "learned", "packed", "pages"])
def test_a_graph_follows_its_inputs(name: str, said: dict[str, dict[str, Any]]) -> None:
    """The result and its gradients, when it is captured and when it is replayed with other values."""
    found = said["replayed"]
    assert len(found["errors"][name]) == 8
    assert max(found["errors"][name]) <= BOUND
    assert found["moved"][name] > 0.5


def test_a_graph_without_its_table_would_be_seen(said: dict[str, dict[str, Any]]) -> None:
    assert min(said["stale"]["errors"]) > 0.1


INDEX = "index kind[q] into bias, dimension 0, may leave the tensor"
WRONG = {
    "an index": ("BoundsError: index 0 of 'bias', `kind[q]`, takes values 5 to 5; that dimension has 5", INDEX),
    "a negative index": ("BoundsError: index 0 of 'bias', `kind[q]`, takes values -1 to -1;", INDEX),
    "a lane": (
        "UnsupportedError: ids[q] can reach 2147483648 .. 2147483648, which does not fit",
        "ids[q] may not fit into the 32-bit integers of kernels",
    ),
    "offsets": (
        "InputError: cu_seqlens_k: offsets must rise from 0 to the 70 tokens, got [0, 50, 40, 63, 70]",
        "cu_seqlens_k: offsets must rise from 0 to the 70 tokens",
    ),
    "an end": (
        "InputError: cu_seqlens_q: offsets must rise from 0 to the 70 tokens, got",
        "cu_seqlens_q: offsets must rise from 0 to the 70 tokens",
    ),
    "a page": (
        "InputError: page_table: page 6 of sequence 0 is in use, but k has the pages 0 .. 5",
        "page_table: a page is in use that is not among the pages 0 .. 5 of k and v",
    ),
    "a length": (
        "InputError: kv_lengths: lengths must be in 0 .. 64",
        "kv_lengths: lengths must be in 0 .. 64, the keys that the page table holds",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found(name: str, said: dict[str, dict[str, Any]]) -> None:
    """By the host at first, then by the device: in a call, and in a graph."""
    first, later, replayed = said["wrong"]["said"][name]
    by_host, on_device = WRONG[name]
    assert first.startswith(by_host)
    assert later == replayed == f"RuntimeError: {on_device}"


def test_what_bounds_do_not_tell_the_host_looks_at(said: dict[str, dict[str, Any]]) -> None:
    found = said["asked_again"]
    assert max(found["errors"]) <= BOUND
    assert found["wrong"].startswith("BoundsError: index 0 of 'bias', `kind[q] - kind[kv]`, takes values -69 to 69;")
    assert found["refused"] == (
        "UnsupportedError: this call cannot become part of a CUDA graph: the host has to look at what its tensors hold "
        "(an index stays inside its tensor only because of what others hold at the same place)"
    )
