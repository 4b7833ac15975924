"""Windows of sequences and grids on the backend: values, log-sum-exps and all gradients, with GQA and Dv != D.

The masks themselves are tested in tests/library. Every kernel takes seconds to build, so each case asks for several
things at once: strides and dilations, numbers of each head, own scores and normalizers, keys beside the grid.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import pytest
import torch

import attngen
from attngen import masks, mechanisms, normalizers
from tests.end_to_end.gradients import check_gradients
from tests.end_to_end.oracle import kernel_of, operands, random
from tests.kinds import some

pytestmark = pytest.mark.cxx

HEADS = 4
SIZES = torch.tensor([2, 3, 5, 4])
TABLE = random(HEADS, 9).requires_grad_()
FLAGS = {name: random(2, HEADS, 120, seed=i) > 1.2 for i, name in enumerate(("columns", "diagonals"))}
BLOCKS = torch.randint(8, (HEADS, 8, 2), generator=torch.Generator().manual_seed(0))

SEQUENCES: dict[str, Callable[[], attngen.Spec]] = {
    "strided": lambda: mechanisms.strided(3 * SIZES),
    "longformer": lambda: mechanisms.longformer(4 * SIZES, 2, torch.tensor([0, 1, 5, 2])),
    "tri_shape": lambda: mechanisms.tri_shape(5, 20, 13, normalizer=normalizers.softmax1()),
    "power_attention": lambda: mechanisms.power_attention(16, 1, 0),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_patterns_of_sequences(name: str) -> None:
    kernel = kernel_of(SEQUENCES[name]())
    for n_q, n_k in [(150, 150), (70, 120), (33, 20), (1, 1)]:
        check_gradients(kernel, *operands(n_q=n_q, n_k=n_k, d=12, dv=7), lse=True)


def test_bigbird() -> None:
    """As many queries as keys, in as many blocks as the table of random ones has rows for."""
    kernel = kernel_of(mechanisms.bigbird(16, BLOCKS))
    for n in (128, 117, 3):
        check_gradients(kernel, *operands(n_q=n, d=12, dv=7), lse=True)


def test_vertical_slash() -> None:
    kernel = kernel_of(mechanisms.vertical_slash())
    for n_q in (120, 41):
        check_gradients(kernel, *operands(n_q=n_q, n_k=120, d=12, dv=7), lse=True, **FLAGS)


def tilted(score: Any, h: Any, q: Any, kv: Any) -> Any:
    """A score of coordinates, with a learned number for each distance along the last axis."""
    return score + TABLE[h, torch.clamp(abs(q[1] - kv[1]), max=8)] - 0.1 * abs(q[0] - kv[0])


GRIDS: dict[str, tuple[tuple[int, ...], Callable[..., attngen.Spec]]] = {
    "1-D, stride and dilation": ((128,), lambda dims: mechanisms.neighborhood(dims, 3, stride=2, dilation=10)),
    "2-D, blocks, own score and normalizer": (
        (5, 25),
        lambda dims: mechanisms.neighborhood(
            dims, (3, 16), stride=(1, 16), score=tilted, normalizer=normalizers.sigmoid(-1.0)
        ),
    ),
    "3-D, all at once, sizes of each head": (
        (6, 7, 9),
        lambda dims: mechanisms.neighborhood(
            dims, (3, SIZES, 5), stride=(1, 2, 3), dilation=(2, 1, 1), is_causal=(False, True, False)
        ),
    ),
    "FreeSwim": ((3, 7, 8), lambda dims: mechanisms.freeswim(dims, (1, 2))),
    "shifted windows": ((9, 13), lambda dims: mechanisms.shifted_windows(dims, (4, 5), score=tilted)),
    "criss-cross": (
        (9, 13),
        lambda dims: attngen.Spec(masks.axial(dims, 0) | masks.axial(dims, 1), space=attngen.Grid(dims)),
    ),
    "MaxViT": ((8, 15), lambda dims: mechanisms.maxvit_grid(dims, (4, 3))),
    "sliding tiles and text": (
        (6, 15),
        # More text than the grid has tokens: it lies in a line, and has no coordinates.
        lambda dims: mechanisms.sliding_tile(dims, 3, (torch.tensor([1, 2, 2, 1]), SIZES)).with_extra_keys(
            mask=lambda q, kv: kv < 30 * q[0]
        ),
    ),
}


@pytest.mark.parametrize("name", some(GRIDS, "FreeSwim", "criss-cross", "MaxViT", "1-D, stride and dilation"))
def test_windows_of_grids(name: str) -> None:
    dims, make = GRIDS[name]
    spec = make(dims)
    given = {}
    if spec.inputs_needed:
        given = {"extra_k": random(2, 2, 140, 12), "extra_v": random(1, 2, 140, 7, seed=2)}
    by = {"table": TABLE} if any(i.name == "TABLE" for i in spec.ir.inputs) else {}
    sigmoid = getattr(spec.ir.branches[0].normalizer, "lse", None) is None
    check_gradients(kernel_of(spec), *operands(n_q=prod(dims), d=12, dv=7), by=by, lse=not sigmoid, **given)
