"""Data-parallel training with a Triton kernel: two processes step as one with the whole batch."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch.distributed

from tests.runtime.triton_processes import told

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed"),
    pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo"),
]
ROUNDING = 1e-6
Ranks = list[dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    """What each process told. Nothing is built when they begin."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    places = {"ATTNGEN_CACHE_DIR": str(folder / "kernels"), "GLOO_SOCKET_IFNAME": loopback}
    return told("tests.runtime.triton_ranks", *((rank, str(folder / "store")) for rank in "01"), **places)


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_ranks_agree_with_each_other_and_with_one_process(ranks: Ranks, way: str) -> None:
    one, other = (rank[way] for rank in ranks)
    assert one["bits"] == other["bits"]
    assert max(one["gap"], other["gap"]) <= ROUNDING
    assert min(one["moved"], other["moved"]) > 1000 * ROUNDING
    assert one["sharded"] == other["sharded"] == (7 if way == "fsdp" else 0)


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_ranks_choose_the_same_kernels(ranks: Ranks, way: str) -> None:
    one, other = (rank[way]["built"] for rank in ranks)
    assert one == other
    assert len(one) == 2
