"""The ten named variants: each for attngen, and as FlexAttention has it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from attngen import Spec, masks, scores
from benchmarks.gpu.works import Function, Size, Tensors, Work, causal, neighborhood, triangle
from benchmarks.variants import t5

CAP = 30.0
SINKS = 4


def variants(size: Size) -> list[Work]:
    """The variants for a size, whose grid has two dimensions."""
    kernel = (max(2, size.grid[0] // 4), max(2, size.grid[1] // 4))
    flat = Size(size.b, size.h, size.n, size.d)
    return [
        causal(flat),
        _window(flat),
        _documents(flat),
        _prefix(flat),
        _alibi(flat),
        _soft_cap(flat),
        _relative_bias(flat),
        neighborhood("neighborhood-2d", size, kernel, (1, 1)),
        _sinks(flat),
        _t5(flat),
    ]


def window_of(size: Size) -> int:
    """1024 of 8192."""
    return size.n // 8


def _window(size: Size) -> Work:
    window = window_of(size)
    return Work(
        f"window-{window}",
        size,
        lambda size, tensors: Spec(mask=masks.sliding_window(window)),
        pairs=lambda size, tensors: _banded(size.n, window),
        mask=lambda size, tensors: lambda b, h, q, kv: (q >= kv) & (q - kv < window),
    )


def _banded(n: int, window: int) -> int:
    return n * window - window * (window - 1) // 2


def lengths(size: Size) -> Tensor:
    """Twelve documents of uneven lengths, the same for every run."""
    cuts = torch.randperm(size.n - 1, generator=torch.Generator().manual_seed(5))[:11] + 1
    edges = torch.cat([torch.tensor([0]), cuts.sort().values, torch.tensor([size.n])])
    return torch.diff(edges)


def _documents(size: Size) -> Work:
    def tensors(size: Size) -> dict[str, Tensor]:
        return {"ids": torch.repeat_interleave(lengths(size)).to(torch.int32)}

    def mask(size: Size, given: Tensors) -> Function:
        ids = given["ids"]
        return lambda b, h, q, kv: (ids[q] == ids[kv]) & (q >= kv)

    return Work(
        "documents",
        size,
        lambda size, tensors: Spec(mask=masks.document(tensors["ids"]) & masks.causal()),
        pairs=lambda size, tensors: sum(n * (n + 1) // 2 for n in lengths(size).tolist()),
        tensors=tensors,
        mask=mask,
    )


def _prefix(size: Size) -> Work:
    prefix = size.n // 8
    return Work(
        "prefix",
        size,
        lambda size, tensors: Spec(mask=masks.prefix(prefix) | masks.causal()),
        pairs=lambda size, tensors: triangle(size, tensors) + prefix * (prefix - 1) // 2,
        mask=lambda size, tensors: lambda b, h, q, kv: (kv < prefix) | (q >= kv),
    )


def _with_score(name: str, size: Size, spec: Any, score: Any, tensors: Any, masked: bool) -> Work:
    plain = causal(size)
    if not masked:
        return Work(name, size, spec, tensors=tensors, score=score)
    return Work(name, size, spec, pairs=triangle, tensors=tensors, mask=plain.mask, score=score)


def _alibi(size: Size) -> Work:
    def tensors(size: Size) -> dict[str, Tensor]:
        return {"slopes": torch.exp2(-8.0 * torch.arange(1, size.h + 1) / size.h)}

    def score(size: Size, given: Tensors) -> Function:
        slopes = given["slopes"]
        return lambda score, b, h, q, kv: score - slopes[h] * (q - kv)

    def spec(size: Size, given: Tensors) -> Spec:
        return Spec(mask=masks.causal(), score=scores.alibi(given["slopes"]))

    return _with_score("alibi", size, spec, score, tensors, True)


def _soft_cap(size: Size) -> Work:
    def spec(size: Size, given: Tensors) -> Spec:
        return Spec(mask=masks.causal(), score=scores.soft_cap(CAP))

    def score(size: Size, given: Tensors) -> Function:
        return lambda score, b, h, q, kv: CAP * torch.tanh(score / CAP)

    return _with_score("soft-cap", size, spec, score, lambda size: {}, True)


def _relative_bias(size: Size) -> Work:
    def tensors(size: Size) -> dict[str, Tensor]:
        return {"table": torch.randn(size.h, 2 * size.n - 1, generator=torch.Generator().manual_seed(6))}

    def score(size: Size, given: Tensors) -> Function:
        table, last = given["table"], size.n - 1
        return lambda score, b, h, q, kv: score + table[h, q - kv + last]

    def spec(size: Size, given: Tensors) -> Spec:
        return Spec(score=scores.relative_bias(given["table"]))

    return _with_score("relative-bias", size, spec, score, tensors, False)


def _sinks(size: Size) -> Work:
    window = window_of(size)
    return Work(
        f"sinks-and-window-{window}",
        size,
        lambda size, tensors: Spec(mask=masks.causal() & (masks.sink(SINKS) | masks.sliding_window(window))),
        # The first `window` rows see the sinks anyway; of the others, the row after them finds one of them outside.
        pairs=lambda size, tensors: (
            _banded(size.n, window) + sum(min(SINKS, max(0, i - window + 1)) for i in range(window, size.n))
        ),
        mask=lambda size, tensors: lambda b, h, q, kv: (q >= kv) & ((kv < SINKS) | (q - kv < window)),
    )


def _t5(size: Size) -> Work:
    def tensors(size: Size) -> dict[str, Tensor]:
        return {"table": torch.randn(size.h, 32, generator=torch.Generator().manual_seed(7))}

    def spec(size: Size, given: Tensors) -> Spec:
        return Spec(score=t5(given["table"]))

    def score(size: Size, given: Tensors) -> Function:
        table = given["table"]

        def bias(score: Any, b: Any, h: Any, q: Any, kv: Any) -> Any:
            distance = kv - q
            near = torch.abs(distance)
            far = 8 + (torch.log(near.float() / 8) / math.log(128 / 8) * 8).to(torch.int32)
            side = torch.where(near < 8, near, torch.clamp(far, max=15))
            return score + table[h, side + torch.where(distance > 0, 16, 0)]

        return bias

    return _with_score("t5-bias", size, spec, score, tensors, False)
