"""Choices that the configs make: what each does to real machine code. The whole matrix is in test_ledger.py."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attngen.codegen.backends.triton.config import TritonConfig
from attngen.codegen.backends.triton.lint import complaints, lint
from attngen.codegen.devices import built_for
from tests.codegen.backends.triton.ledger import build, linted
from tests.codegen.backends.triton.matrix import source
from tests.kinds import some

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


def test_unaligned_tensors() -> None:
    assert linted(source("causal", "sm_90", 64, "forward"), aligned=False)["complaints"] == []


def test_fp32_products_are_no_tf32(tmp_path: Path) -> None:
    binary = build(source("causal", "sm_90", 64, "forward", "fp32"), tmp_path)
    assert complaints(lint(binary), built_for("sm_90")) == []
    # Three products of tf32 stand for one of fp32; a bare one would be "inputPrecision = tf32".
    assert binary.ttgir.count("ttng.warp_group_dot ") % 3 == 0
    exact = TritonConfig(32, 32, 8, 2, "ieee")
    binary = build(source("causal", "sm_90", 64, "forward", "fp32", exact), tmp_path)
    assert "wgmma" not in binary.ptx


LOADS = TritonConfig(128, 64, 8, 2, "tf32x3", lookups="load")


def test_single_elements_are_read_past_the_pipeline() -> None:
    """Triton's own loads would go through shared memory and spill."""
    inline = linted(source("relative", "sm_90", 128, "forward"))
    loaded = linted(source("relative", "sm_90", 128, "forward", config=LOADS))
    assert loaded["shared"] >= inline["shared"] + 32 * 1024
    assert loaded["local_stores"] > inline["local_stores"] == 0


ENGINE = TritonConfig(128, 64, 4, 2, "tf32x3", loops="one", loads="descriptor", specialize=True)


@pytest.mark.parametrize("name", some(["causal", "causal head"], "causal"))
def test_specialised_warps(name: str) -> None:
    found = linted(source(name, "sm_90", 128, "forward", config=ENGINE))
    assert found["complaints"] == []
    assert found["specialized"]


@pytest.mark.parametrize("change", [{"num_warps": 8}, {"loads": "pointer", "num_warps": 8}], ids=["warps", "pointers"])
def test_specialised_warps_that_triton_drops_are_noticed(change: dict[str, Any]) -> None:
    found = linted(source("causal", "sm_90", 64, "forward", config=replace(ENGINE, **change)))
    assert any("dropped in silence" in complaint for complaint in found["complaints"])


@pytest.mark.slow
def test_descriptors_take_fewer_registers() -> None:
    config = TritonConfig(128, 64, 8, 2, "tf32x3")
    pointers = linted(source("causal", "sm_90", 64, "forward", config=config))
    tiles = linted(source("causal", "sm_90", 64, "forward", config=replace(config, loads="descriptor")))
    assert tiles["complaints"] == pointers["complaints"] == []
    assert tiles["registers"] < pointers["registers"]


def test_boxes_of_a_grid_go_from_their_descriptors_to_the_products(tmp_path: Path) -> None:
    config = source("volume", "sm_90", 64, "forward").config
    binary = build(source("volume", "sm_90", 64, "forward", config=replace(config, loads="descriptor")), tmp_path)
    assert complaints(lint(binary), built_for("sm_90")) == []
    loop = binary.ttgir[binary.ttgir.rindex(" scf.for ") :]
    loop = loop[: loop.index("scf.yield")]
    moved = set(re.findall(r"ttg\.local_\w+|ttng\.async_tma\w+|ttg\.async_copy\w+|ttng\.warp_group_dot ", loop))
    # Nothing is read into registers or written back on the way: the shared memory of a box is looked at as a tile.
    assert moved == {"ttng.async_tma_copy_global_to_local", "ttng.warp_group_dot "}
    assert re.search(r"cp\.async\.bulk\.tensor\.4d", binary.ptx)
