"""Every normalizer under every kind of mask: gradients with GQA, Dv != D and odd lengths.

A kernel of its own for each pair would take minutes to build, so the masks lie side by side, one for each head; the
library's masks, with their closed-form ranges, come with a few normalizers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks, normalizers
from attngen.errors import InputError
from tests.end_to_end.gradients import check_gradients
from tests.end_to_end.oracle import kernel_of, operands, random
from tests.kinds import some

pytestmark = pytest.mark.cxx

HEADS, N = 6, 91
IDS = torch.randint(0, 90, (2, 3001), generator=torch.Generator().manual_seed(0)).sort().values
Given = tuple[Any, dict[str, Tensor]]
"""A normalizer, and the tensors that it captured."""


def learned(*shape: int, seed: int = 1) -> Tensor:
    return random(*shape, seed=seed).requires_grad_()


def one_mask_for_each_head(b: Any, h: Any, q: Any, kv: Any, n_k: Any) -> Any:
    start = torch.clamp(torch.clamp(q - 4, max=n_k - 9), min=0)
    kinds = [
        kv <= q,
        (kv >= q - 20) & (kv <= q + 5),
        IDS[b, q] == IDS[b, kv],
        (kv >= start) & (kv < start + 9),
        (kv <= q) & (q % 7 != 3) & (q > 5),
        (q * 7 + kv * 13) % 5 < 2,
    ]
    found = kinds[0]
    for i, kind in enumerate(kinds[1:], 1):
        found = torch.where(h == i, kind, found)
    return found


def with_sink(**more: Any) -> Given:
    sink = torch.tensor([-100.0, 0.3, 2.0, -1.0, 0.5, -float("inf")], requires_grad=True)
    return normalizers.softmax(sink=sink, **more), {"sink": sink}


def sigmoid() -> Given:
    bias = learned(HEADS)
    return normalizers.sigmoid(bias=bias), {"bias": bias}


def affine() -> Given:
    alpha, beta = learned(HEADS), learned(2, HEADS, N, seed=2)
    return normalizers.affine(alpha, beta), {"alpha": alpha, "beta": beta}


def plain(make: Callable[..., Any], *given: Any, **more: Any) -> Callable[[], Given]:
    return lambda: (make(*given, **more), {})


NORMALIZERS: dict[str, Callable[[], Given]] = {
    "softmax": plain(normalizers.softmax),
    "softmax-sink": with_sink,
    "softmax-adjusted": lambda: with_sink(numerics="adjusted"),
    "softmax1": plain(normalizers.softmax1),
    "sigmoid": sigmoid,
    "relu": plain(normalizers.relu),
    "relu-squared": plain(normalizers.relu, power=2, divide_by="count"),
    "softplus-l1": plain(normalizers.softplus_l1),
    "cog": plain(normalizers.cog),
    "laplace": plain(normalizers.laplace),
    "none": plain(normalizers.none),
    "softpick": plain(normalizers.softpick),
    "linear": plain(normalizers.linear, eps=0.5),
    "affine": affine,
    "lssar": plain(normalizers.lssar, power=2, offset=0.5),
    "lssar-visible": plain(normalizers.lssar, power=15, offset=1.0, amplify="n_visible"),
    "entmax": plain(normalizers.entmax, 1.5),
    "entmax-3": plain(normalizers.entmax, 3.0),
    "sparsemax": plain(normalizers.entmax, 2.0),
    "stick-breaking": plain(normalizers.stick_breaking),
}
WITH_LSE = ("softmax", "cog", "affine")


def tensors(n_q: int, n_k: int, **sizes: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Six query heads, two key heads, three value heads."""
    q, k, v = operands(h=HEADS, hk=HEADS, n_q=n_q, n_k=n_k, **{"d": 20, "dv": 13, **sizes})
    return q, k[:, :2], v[:, :3]


LATER: tuple[str, ...] = ("sigmoid", "entmax", "stick-breaking")
LATER += (
    "softmax-adjusted",
    "softmax1",
    "relu",
    "cog",
    "laplace",
    "none",
    "softpick",
    "lssar-visible",
    "entmax-3",
    "sparsemax",
)


@pytest.mark.parametrize("name", some(NORMALIZERS, *LATER))
def test_normalizer_under_a_mask_for_each_head(name: str) -> None:
    normalizer, by = NORMALIZERS[name]()
    score = "abs(score)" if name == "linear" else None
    kernel = kernel_of(attngen.Spec(mask=one_mask_for_each_head, score=score, normalizer=normalizer))
    for n_q, n_k in [(67, 91), (91, 33), (1, 1)]:
        check_gradients(kernel, *tensors(n_q, n_k), by=by, lse=name.startswith(WITH_LSE))


def test_every_normalizer_of_the_library_is_here() -> None:
    known = {name.split("-")[0].replace("1", "") for name in NORMALIZERS} | {"softplus_l1", "stick_breaking"}
    assert {name.replace("1", "") for name in normalizers.registry.ALL} - {"softplus_l"} <= known


MASKS: dict[str, Callable[[], Any]] = {
    "causal": masks.causal,
    "window": lambda: masks.window(17, 3),
    "documents": lambda: masks.document(IDS) & masks.causal(),
    "neighborhood": lambda: masks.neighborhood((7, 13), (4, 5), stride=(1, 2)),
    "empty-rows": lambda: masks.Mask.of(lambda q, kv: (q % 3 != 1) & (kv <= q) & (q > 5)),
}


@pytest.mark.parametrize(("mask", "name"), [*((mask, "softmax-sink") for mask in MASKS), ("window", "sigmoid")])
def test_masks_of_the_library(mask: str, name: str) -> None:
    normalizer, by = NORMALIZERS[name]()
    space = attngen.Grid((7, 13)) if mask == "neighborhood" else None
    kernel = kernel_of(attngen.Spec(mask=MASKS[mask](), normalizer=normalizer, space=space))
    for n_q in [91] if mask == "neighborhood" else [91, 64]:
        check_gradients(kernel, *tensors(n_q, 91), by=by, lse=name.startswith(WITH_LSE))


def test_the_log_sum_exp_alone_has_a_gradient() -> None:
    normalizer, by = with_sink()
    kernel = kernel_of(attngen.Spec(mask=MASKS["empty-rows"](), normalizer=normalizer))
    check_gradients(kernel, *tensors(67, 91), by=by, lse=True, dout=torch.zeros_like)


def test_only_what_is_asked_for_gets_a_gradient() -> None:
    normalizer, by = sigmoid()
    kernel = kernel_of(attngen.Spec(mask=masks.causal(), normalizer=normalizer))
    q, k, v = tensors(67, 91)
    check_gradients(kernel, q, k, v, by=by, qkv=False)
    whole = check_gradients(kernel, q, k, v, by=by)
    for name in "qkv":
        given = {"q": q, "k": k, "v": v}
        one = given[name].clone().requires_grad_()
        out = kernel(**{**given, name: one})
        cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(11), dtype=torch.float64)
        assert torch.equal(torch.autograd.grad(out, one, cotangent.float())[0], whole[name])


def test_a_normalizer_without_a_log_sum_exp_says_so() -> None:
    q, k, v = (t.requires_grad_() for t in tensors(5, 5))
    with pytest.raises(InputError, match="has no log-sum-exp"):
        kernel_of(attngen.Spec(normalizer="sigmoid"))(q, k, v, return_lse=True)
