"""Tile classes of tensors that come later: sound, and as tight as those of the host, on random masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from attngen.codegen.analysis import Arrays, Truth, all_tiles, patterns
from attngen.codegen.analysis.deferred import NeedsElements
from attngen.codegen.calls.elements import Elements, later
from attngen.codegen.calls.program import Program
from tests.codegen.analysis import strategies
from tests.codegen.analysis.dense import tile_classes, visible
from tests.codegen.analysis.strategies import thorough


def on_device(case: strategies.Case, tile: tuple[int, int], tensors: dict[str, Any]) -> list[Any]:
    """may_be_true and may_be_false of every tile, found with torch. Arrays without dimensions are run-time numbers."""
    values = {name: later(name, t) if isinstance(t, torch.Tensor) else t for name, t in tensors.items()}
    depends = patterns(case.mask)
    found = all_tiles(case.mask, case.space, case.sizes, tile, Elements(values), depends.b, depends.h)
    program = Program([found.may_be_true, found.may_be_false], "cpu")
    shape = tuple(-(-n // t) for n, t in zip((case.sizes.n_q, case.sizes.n_k), tile, strict=True))
    whole = (case.sizes.n_b, case.sizes.n_h, *shape)
    return [np.broadcast_to(t.numpy(), whole) for t in program(tensors)]


def split(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.from_numpy(np.array(a)) if np.ndim(a) else a for name, a in arrays.items()}


def of_host(case: strategies.Case, tile: tuple[int, int]) -> Truth:
    depends = patterns(case.mask)
    return all_tiles(case.mask, case.space, case.sizes, tile, Arrays(case.arrays), depends.b, depends.h)


@thorough(300)
@given(strategies.cases(), st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_sound_and_as_tight_as_on_the_host(case: strategies.Case, tile: tuple[int, int]) -> None:
    may_be_true, may_be_false = on_device(case, tile, split(case.arrays))
    host = of_host(case, tile)
    some, every = tile_classes(visible(case.mask, case.sizes, case.arrays, case.space), *tile)
    assert not (some & ~may_be_true).any()
    assert not (~every & ~may_be_false).any()
    assert not (may_be_true & ~np.broadcast_to(host.may_be_true, may_be_true.shape)).any()
    assert not (may_be_false & ~np.broadcast_to(host.may_be_false, may_be_false.shape)).any()
