"""Every streaming normalizer against the oracle, with rows that see nothing, one key, or everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import attngen
from attngen import masks, normalizers
from tests.end_to_end.oracle import check, kernel_of, operands
from tests.end_to_end.test_gradients import NORMALIZERS, WITH_LSE, one_mask_for_each_head, tensors
from tests.end_to_end.test_passes import BOUNDS
from tests.kinds import some

pytestmark = pytest.mark.cxx


def kernel(name: str) -> attngen.Kernel:
    """The very kernel whose gradients test_gradients looks at, with a mask for each head."""
    score = "abs(score)" if name == "linear" else None
    return kernel_of(attngen.Spec(mask=one_mask_for_each_head, score=score, normalizer=NORMALIZERS[name]()[0]))


LATER = {"relu-squared", "softmax-sink", "affine", "entmax", "lssar", "sigmoid"}
LATER |= {"cog", "laplace", "none", "relu", "sparsemax", "softplus-l1"}


@pytest.mark.parametrize("name", some(NORMALIZERS, *LATER))
def test_many_tiles_of_keys_and_few_queries(name: str) -> None:
    for n_q, n_k in [(91, 700), (1, 3001), (3, 500)]:
        check(kernel(name), *tensors(n_q, n_k), lse=name.startswith(WITH_LSE), bound=BOUNDS.get(name))


CANCELS = ("softpick", "linear", "lssar-visible")
"""Where all scores are near 0: exp(s) - 1, a mass that is but its eps, n_visible * share - 1."""


STEADY = [name for name in NORMALIZERS if name not in CANCELS]


@pytest.mark.parametrize("name", some(STEADY, *LATER & set(STEADY)))
def test_tiny_scores(name: str) -> None:
    q, k, v = tensors(91, 91)
    check(kernel(name), q * 1e-6, k, v, lse=name.startswith(WITH_LSE))


@pytest.mark.parametrize("name", some(NORMALIZERS, *LATER))
def test_large_scores(name: str) -> None:
    # A row of few keys has no mass in float32 where softplus(s) = exp(s) of every one of them is 0.
    size = 8 if name.startswith(("softplus", "lssar")) else 30
    q, k, v = tensors(91, 91)
    check(kernel(name), q * size, k, v, lse=name.startswith(WITH_LSE), bound=1e-4)


NUMBERS: dict[str, Callable[[], Any]] = {
    "softmax-sink": lambda: normalizers.softmax(sink=0.7, numerics="adjusted"),
    "sigmoid-bias": lambda: normalizers.sigmoid(bias=-3.0),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_captured_numbers(name: str) -> None:
    spec = attngen.Spec(mask=masks.causal(), normalizer=NUMBERS[name]())
    check(spec, *operands(n_q=200), lse=name == "softmax-sink")


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
