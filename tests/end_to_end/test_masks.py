"""Every library mask against the oracle, over awkward lengths; a mask is one kernel whatever the lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import attngen
from attngen import masks
from tests.end_to_end.oracle import check, kernel_of, operands
from tests.kinds import some

pytestmark = pytest.mark.cxx

MASKS: dict[str, Callable[[], Any]] = {
    "full": lambda: masks.full(),
    "causal": lambda: masks.causal(),
    "causal-bottom-right": lambda: masks.causal(align="bottom_right"),
    "sliding-window-1": lambda: masks.sliding_window(1),
    "sliding-window-9": lambda: masks.sliding_window(9),
    "window-left": lambda: masks.window(16, 0),
    "window-both": lambda: masks.window(5, 20),
    "window-open": lambda: masks.window(-1, 3),
    "prefix-or-causal": lambda: masks.prefix(10) | masks.causal(),
    "sink-and-window": lambda: (masks.sink(4) | masks.sliding_window(16)) & masks.causal(),
    "chunked": lambda: masks.chunked(24),
    "dilated": lambda: masks.dilated(8, 3),
    "none": lambda: masks.causal() & ~masks.causal(),
    "holes": lambda: masks.Mask.of(lambda q, kv: (q * 7 + kv * 13) % 5 < 2),
    "empty-rows": lambda: masks.Mask.of(lambda q, kv: (q % 3 != 1) & (kv <= q) & (q > 5)),
    "per-head": lambda: masks.Mask.of(lambda h, q, kv: torch.where(h % 2 == 0, kv <= q, kv >= q - 3)),
    "per-batch": lambda: masks.Mask.of(lambda b, q, kv: kv < 20 * b + 3),
    "not-equal": lambda: masks.Mask.of(lambda q, kv: q != kv),
}
LENGTHS = [(1, 1), (1, 7), (7, 1), (48, 128), (49, 129), (130, 65), (203, 331), (331, 203)]


LATER = (
    "sliding-window-1",
    "sliding-window-9",
    "window-both",
    "window-open",
    "none",
    "holes",
    "per-batch",
    "not-equal",
)


@pytest.mark.parametrize("name", some(MASKS, *LATER))
def test_mask(name: str) -> None:
    kernel = kernel_of(attngen.Spec(mask=MASKS[name]()))
    for n_q, n_k in LENGTHS:
        check(kernel, *operands(n_q=n_q, n_k=n_k), lse=True)


def test_lengths_of_each_batch() -> None:
    lengths = torch.tensor([0, 1, 64, 131])
    check(attngen.Spec(mask=masks.lengths(lengths)), *operands(b=4, n_q=33, n_k=131), lse=True)


@pytest.mark.parametrize("sorted_ids", [True, False], ids=["sorted", "shuffled"])
def test_documents(sorted_ids: bool) -> None:
    ids = torch.randint(0, 9, (2, 301), generator=torch.Generator().manual_seed(0))
    ids = ids.sort().values if sorted_ids else ids
    check(attngen.Spec(mask=masks.document(ids) & masks.causal()), *operands(n_q=301), lse=True)


def test_documents_from_offsets() -> None:
    offsets = torch.tensor([0, 1, 64, 65, 200, 301])
    check(attngen.Spec(mask=masks.document(cu_seqlens=offsets)), *operands(n_q=301), lse=True)


def test_coordinates_of_a_grid() -> None:
    def diamond(q: Any, kv: Any) -> Any:
        return (q[0] - kv[0]).abs() + (q[1] - kv[1]).abs() <= 3

    check(attngen.Spec(mask=diamond, space=attngen.Grid((9, 14))), *operands(n_q=126), lse=True)


def test_random_masks() -> None:
    """A random number is another one for every pair, whatever its arguments say."""

    def random(q: Any, kv: Any) -> Any:
        return attngen.weights.uniform(3) < 0.5

    for mask in (masks.Mask.of(random), masks.Mask.of(random) & masks.causal()):
        check(attngen.Spec(mask=mask), *operands(n_q=70, n_k=70), lse=True)
