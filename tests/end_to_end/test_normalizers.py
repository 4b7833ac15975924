"""Every streaming normalizer against the oracle, with rows that see nothing, one key, or everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import attngen
from attngen import masks, normalizers
from tests.end_to_end.oracle import check, kernel_of, operands, random

pytestmark = pytest.mark.cxx

NORMALIZERS: dict[str, Callable[[], Any]] = {
    "softmax": lambda: normalizers.softmax(),
    "softmax-sink-number": lambda: normalizers.softmax(sink=0.7),
    "softmax-sink": lambda: normalizers.softmax(sink=torch.tensor([-100.0, 0.3, 2.0, 90.0])),
    "softmax-adjusted": lambda: normalizers.softmax(numerics="adjusted"),
    "softmax-adjusted-sink": lambda: normalizers.softmax(sink=random(4), numerics="adjusted"),
    "softmax1": lambda: normalizers.softmax1(),
    "sigmoid": lambda: normalizers.sigmoid(),
    "sigmoid-bias": lambda: normalizers.sigmoid(bias=-3.0),
    "relu": lambda: normalizers.relu(),
    "relu-squared": lambda: normalizers.relu(power=2),
    "softplus-l1": lambda: normalizers.softplus_l1(),
    "cog": lambda: normalizers.cog(),
    "laplace": lambda: normalizers.laplace(),
    "none": lambda: normalizers.none(),
    "softpick": lambda: normalizers.softpick(),
    "affine": lambda: normalizers.affine(random(4), random(2, 4, 130, seed=2)),
}
WITH_LSE = ("softmax", "affine")


@pytest.mark.parametrize("name", NORMALIZERS)
def test_normalizer(name: str) -> None:
    mask = masks.Mask.of(lambda q, kv: (q > 5) & (kv <= q))
    kernel = kernel_of(attngen.Spec(mask=mask, normalizer=NORMALIZERS[name]()))
    lse = name.startswith(WITH_LSE)
    for n_k in (1, 130, 300):
        check(kernel, *operands(n_q=130, n_k=n_k), lse=lse)


@pytest.mark.parametrize("name", NORMALIZERS)
@pytest.mark.parametrize("size", [1e-6, 30.0], ids=["tiny-scores", "large-scores"])
def test_normalizer_of_scores(name: str, size: float) -> None:
    if name == "softpick" and size < 1:
        pytest.skip("exp(s) - 1 cancels in any precision")
    mask = masks.Mask.of(lambda q, kv: (q > 5) & (kv <= q))
    kernel = kernel_of(attngen.Spec(mask=mask, normalizer=NORMALIZERS[name]()))
    q, k, v = operands(n_q=130)
    check(kernel, q * size, k, v, lse=name.startswith(WITH_LSE), bound=1e-4 if size > 1 else None)


def test_linear() -> None:
    # Positive scores: a mass that may cancel has no accuracy to test.
    spec = attngen.Spec(score=lambda score: torch.abs(score), mask=masks.causal(), normalizer=normalizers.linear())
    check(spec, *operands(n_q=130))


def own(name: str, **functions: Any) -> Any:
    return normalizers.streaming(name, **functions)


OWN: dict[str, Callable[[], Any]] = {
    "mean": lambda: own("mean", phi=lambda s: s * 0 + 1, finalize=lambda acc, count: acc / torch.clamp(count, min=1)),
    "tempered": lambda: own(
        "tempered",
        phi=lambda s, m: torch.exp(2 * (s - m)),
        psi=lambda s, m: torch.exp(2 * (s - m)),
        anchor=lambda s: s,
    ),
    "by-distance": lambda: own("by-distance", phi=lambda s, q: torch.tanh(s) / (1 + q), psi=lambda s: torch.abs(s)),
    "vsum": lambda: own("vsum", phi=lambda s: s * 0.1, finalize=lambda acc, vsum, count: acc - vsum / (1 + count)),
    "anchored-abs": lambda: own(
        "anchored-abs",
        phi=lambda s, m: torch.sign(s) * torch.exp(torch.abs(s) - m),
        psi=lambda s, m: torch.exp(torch.abs(s) - m),
        anchor=lambda s: torch.abs(s),
        sink=lambda h: h * 0.5,
        offset=0.25,
        lse=lambda m, mass: m + torch.log(mass),
        jumps_ignored=(0.0,),
    ),
}


@pytest.mark.parametrize("name", OWN)
def test_own_normalizer(name: str) -> None:
    check(attngen.Spec(mask=masks.causal(), normalizer=OWN[name]()), *operands(n_q=200), lse=name == "anchored-abs")
