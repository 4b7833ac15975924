"""The configs that are shipped: real machine code for three architectures, looked at without a device."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attngen.codegen.backends.triton.config import TritonConfig
from attngen.codegen.backends.triton.lint import complaints, lint
from attngen.codegen.devices import built_for
from tests.codegen.backends.triton.asking import ROOT, worker
from tests.codegen.backends.triton.shipped import SPECS, built, linted

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
EVERYDAY = ("full", "causal")


def each(first: int, often: int = 1) -> list[Any]:
    """Specs, architectures and head dimensions. A build takes seconds: every spec is built for one architecture, the
    everyday ones for all three, and all the others where time does not matter."""
    found = []
    for i, name in enumerate(SPECS):
        for j, arch in enumerate(ARCHITECTURES):
            for d in (64, 128):
                chosen = (i + first) % 3 == j or (often and name in EVERYDAY)
                marks = () if chosen and d == (64 if (i + j) % 2 else 128) else (pytest.mark.slow,)
                found.append(pytest.param(name, arch, d, marks=marks, id=f"{name}-{arch}-{d}"))
    return found


OLDER = ROOT / ".venv" / "triton-older"
"""The oldest Triton that attngen supports, which `make setup` puts beside the other one."""


@pytest.mark.parametrize(("name", "arch", "d"), each(1))
def test_forwards_pass_the_lint(name: str, arch: str, d: int) -> None:
    found = linted(name, arch, d)
    assert found["complaints"] == []
    assert found["dots_in_loop"] >= 2


@pytest.mark.parametrize(("name", "arch", "d"), each(0, often=0))
def test_backwards_pass_the_lint(name: str, arch: str, d: int) -> None:
    found = linted(name, arch, d, kernel="keys")
    assert found["complaints"] == []
    assert found["dots_in_loop"] >= 4


@pytest.mark.parametrize(("name", "arch", "d"), each(0, often=0)[::2])
def test_backwards_by_queries_pass_the_lint(name: str, arch: str, d: int) -> None:
    found = linted(name, arch, d, kernel="queries")
    assert found["complaints"] == []
    assert found["dots_in_loop"] >= 3


@pytest.mark.parametrize("arch", ["sm_90", *(pytest.param(a, marks=pytest.mark.slow) for a in ("sm_80", "sm_100"))])
def test_unaligned_tensors(arch: str) -> None:
    assert linted("causal", arch, 64, aligned=False)["complaints"] == []


Built = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def older() -> Iterator[Built]:
    """Has a kernel built by the older Triton."""
    if not OLDER.is_dir():
        pytest.skip("there is no second Triton; make setup installs it")
    variables = {"PYTHONPATH": f"{OLDER}{os.pathsep}{ROOT}"}
    with worker("tests.codegen.backends.triton.shipped", variables) as asked:

        def built_by_it(**what: Any) -> dict[str, Any]:
            found = asked(json.dumps(what))
            assert "failed" not in found, found["failed"]
            assert found["triton"].startswith("3.6."), found["triton"]
            return found

        yield built_by_it


OF_OLDER = [one for one in each(1, often=0) if one.values[1] == "sm_90"]


@pytest.mark.parametrize(("name", "arch", "d"), OF_OLDER)
def test_forwards_of_the_older_triton(name: str, arch: str, d: int, older: Built) -> None:
    assert older(name=name, arch=arch, d=d)["complaints"] == []


@pytest.mark.parametrize("kernel", ["queries", "keys"])
@pytest.mark.parametrize("name", ["causal", pytest.param("relative", marks=pytest.mark.slow), "neighborhood"])
def test_backwards_of_the_older_triton(name: str, kernel: str, older: Built) -> None:
    assert older(name=name, arch="sm_90", d=64, kernel=kernel)["complaints"] == []


def test_fp32_products_are_no_tf32(tmp_path: Path) -> None:
    binary = built(tmp_path, "causal", "sm_90", 64, dtype="fp32")
    assert complaints(lint(binary), built_for("sm_90")) == []
    # Three products of tf32 stand for one of fp32; a bare one would be "inputPrecision = tf32".
    assert binary.ttgir.count("ttng.warp_group_dot ") % 3 == 0
    exact = TritonConfig(32, 32, 8, 2, "ieee")
    assert "HGMMA" not in built(tmp_path, "causal", "sm_90", 64, dtype="fp32", config=exact).ptx.upper()


def test_single_elements_are_read_past_the_pipeline() -> None:
    """Triton's own loads would go through shared memory and spill."""
    inline = linted("relative", "sm_90", 128)
    loaded = linted("relative", "sm_90", 128, config=TritonConfig(128, 64, 8, 2, "tf32x3", lookups="load"))
    assert loaded["shared"] >= inline["shared"] + 32 * 1024
    assert loaded["local_stores"] > inline["local_stores"] == 0


ENGINE = TritonConfig(128, 64, 4, 2, "tf32x3", loops="one", loads="descriptor", specialize=True)


@pytest.mark.parametrize("name", ["causal", "alibi"])
def test_specialised_warps(name: str) -> None:
    found = linted(name, "sm_90", 128, config=ENGINE)
    assert found["complaints"] == []
    assert found["specialized"]


@pytest.mark.parametrize("change", [{"num_warps": 8}, {"loads": "pointer", "num_warps": 8}], ids=["warps", "pointers"])
def test_specialised_warps_that_triton_drops_are_noticed(change: dict[str, Any]) -> None:
    found = linted("causal", "sm_90", 64, config=replace(ENGINE, **change))
    assert any("dropped in silence" in complaint for complaint in found["complaints"])


def test_descriptors_take_fewer_registers() -> None:
    config = TritonConfig(128, 64, 8, 2, "tf32x3")
    pointers = linted("causal", "sm_90", 64, config=config)
    tiles = linted("causal", "sm_90", 64, config=replace(config, loads="descriptor"))
    assert tiles["complaints"] == pointers["complaints"] == []
    assert tiles["registers"] < pointers["registers"]
