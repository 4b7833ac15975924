"""Rows that see nothing, and rows whose keys have no mass: what finalize makes of nothing has no gradient either."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import attngen
from attngen import masks, normalizers
from attngen.errors import SpecError
from tests.end_to_end.gradients import check_gradients
from tests.end_to_end.oracle import operands, random

pytestmark = pytest.mark.cxx

EMPTY = masks.Mask.of(lambda q, kv: (kv <= q) & (q % 7 != 3) & (q > 5))
SHIFT = random(4).requires_grad_()


def exponential(finalize: Callable[..., Any], **more: Any) -> Any:
    return normalizers.streaming(
        "own",
        phi=lambda s, m: torch.exp(s - m),
        psi=lambda s, m: torch.exp(s - m),
        anchor=lambda s: s,
        finalize=finalize,
        **more,
    )


def share(finalize: Callable[..., Any]) -> Any:
    """Mass 0 where every score is below 1."""
    return normalizers.streaming(
        "own", phi=lambda s: torch.relu(s - 1), psi=lambda s: torch.relu(s - 1), finalize=finalize
    )


RULES: dict[str, Callable[[], Any]] = {
    "no-mass": lambda: normalizers.streaming(
        "own", phi=lambda s: torch.sigmoid(s), finalize=lambda acc, h: acc + SHIFT[h]
    ),
    "mass": lambda: exponential(lambda acc, mass, h: acc / mass + SHIFT[h]),
    "sink": lambda: exponential(lambda acc, mass, h: acc / mass + SHIFT[h], sink=lambda h: SHIFT[h]),
    "keys-without-mass": lambda: share(
        lambda acc, mass, vsum, count, h: acc / (1 + mass) + SHIFT[h] * vsum / torch.clamp(count, min=1)
    ),
    "keys-that-cancel": lambda: share(
        lambda acc, mass, vsum, count, h: acc / torch.where(mass > 0, mass, 1.0) + SHIFT[h] * vsum / (1 + count)
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_what_finalize_adds(name: str) -> None:
    spec = attngen.Spec(mask=EMPTY, normalizer=RULES[name]())
    for n_k in (70, 5):
        check_gradients(spec, *operands(n_k=n_k), by={"shift": SHIFT}, bound=1e-4 if "keys" in name else None)


@pytest.mark.parametrize("offset", [1e3, 3.0])
def test_rows_that_reweighting_leaves_nothing_of(offset: float) -> None:
    found = check_gradients(attngen.Spec(mask=EMPTY, normalizer=normalizers.lssar(2, offset)), *operands())
    assert offset < 1e3 or not any(t.any() for t in found.values())


def test_an_anchor_that_shows_is_refused() -> None:
    # Gradients take it as a constant.
    with pytest.raises(SpecError, match="depends on where the anchor lies"):
        attngen.compile(attngen.Spec(normalizer=exponential(lambda acc, mass, m: acc / mass + m)))
