"""Every kernel of the matrix was linted as it is now, with both versions of Triton, and passed."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import astuple
from functools import cache

import pytest

from tests.codegen.backends.triton import ledger
from tests.codegen.backends.triton.asking import Ask, worker
from tests.codegen.backends.triton.ledger import (
    CLEAN,
    OLDER,
    OLDER_FIRST,
    OLDEST,
    address,
    cells_of,
    file_of,
    found_in,
    read,
)
from tests.codegen.backends.triton.matrix import Cell, Source, cells

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
VERSIONS = (OLDEST, "3.7.1")
SAMPLE = {OLDEST: 1, "3.7.1": 3}
"""So many kernels are built again. Which ones, their hashes decide: others after every change."""

VOLUME = Cell("keys", "volume", "sm_90", 64)
PASSES = {Cell("queries", "lssar head", "sm_80", 128), Cell("keys", "lssar boxes pair", "sm_100", 128)}
KNOWN = {OLDEST: {VOLUME}, "3.7.1": {VOLUME, *PASSES}}
"""Kernels that spill registers with the configs that are shipped."""


@cache
def sources() -> dict[Cell, Source]:
    return {cell: cell.source() for cell in cells()}


@cache
def addresses(version: str) -> dict[Cell, str]:
    return {cell: address(sources()[cell]) for cell in cells_of(version)}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_kernel_was_linted_as_it_is(version: str) -> None:
    found = read(file_of(version))
    changed = [cell for cell, now in addresses(version).items() if cell not in found or found[cell].source != now]
    assert not changed, (
        f"{len(changed)} kernels are not those that were linted, such as {changed[0]}: make lint-kernels"
    )
    assert not set(found) - set(addresses(version))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_kernel_passes(version: str) -> None:
    failed = {cell for cell, found in read(file_of(version)).items() if found.lint != CLEAN}
    assert failed == KNOWN[version]


@pytest.fixture
def older() -> Iterator[Ask]:
    """Has a kernel built by the older Triton."""
    if not OLDER.is_dir():
        pytest.skip("there is no second Triton; make setup installs it")
    with worker(ledger.__name__, OLDER_FIRST, "--serve") as asked:
        yield asked


def test_the_ledger_is_what_is_built() -> None:
    import triton

    version = triton.__version__
    if version not in VERSIONS:
        pytest.skip(f"the ledgers are those of Triton {', '.join(VERSIONS)}, and this is {version}")
    found = read(file_of(version))
    for cell in sample(version):
        assert found_in(sources()[cell]) == found[cell], cell


def test_the_ledger_of_the_older_triton_is_what_is_built(older: Ask) -> None:
    found = read(file_of(OLDEST))
    for cell in sample(OLDEST):
        answer = older(json.dumps(astuple(cell)))
        assert answer == {"triton": OLDEST, "found": list(astuple(found[cell]))}, cell


def sample(version: str) -> list[Cell]:
    found = addresses(version)
    return sorted(found, key=lambda cell: found[cell])[: SAMPLE[version]]
