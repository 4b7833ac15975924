"""Specs for the interpreter, with the sizes of their operands: every kind of mask, score and normalizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

import attngen
from attngen import masks, normalizers, scores, weights

Spec = attngen.Spec
IDS, SLOPES = torch.arange(37) // 7, torch.tensor([0.5, 0.25, 0.125, 1.0])
FLAGS = torch.rand(2, 2, 53, generator=torch.Generator().manual_seed(0)) < 0.1


def _learned(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(shape) + sum(shape))
    return torch.randn(shape, generator=generator).requires_grad_()


LEARNED = {
    "slopes": _learned(2),
    "sink": _learned(2),
    "of queries": _learned(2, 37),
    "of keys": _learned(37),
    "by distance": _learned(2, 73),
    "of pairs": _learned(37, 37),
    "of channels": _learned(2, 37, 24),
    "of buckets": _learned(2, 8),
    "of thirds": _learned(3, 3),
    "of a grid": _learned(2, 96),
    "of pairs of a grid": _learned(96, 96),
}


@dataclass(frozen=True)
class Case:
    """A spec and the sizes of q, k and v. `kernel`: options of `attngen.compile`; `inputs`: shapes of what a call gives
    beside them; `learned`: captured tensors whose gradients are compared beside those of q, k, v and the inputs, or
    None where gradients are not."""

    spec: Callable[[], attngen.Spec]
    b: int = 1
    h: int = 2
    hk: int = 2
    n_q: int = 37
    n_k: int = 37
    d: int = 16
    dv: int = 16
    dtype: torch.dtype = torch.float32
    lse: bool = False
    kernel: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    learned: tuple[torch.Tensor, ...] | None = ()


def _normalizer(name: str, *arguments: Any) -> Callable[[], attngen.Spec]:
    return lambda: Spec(mask=masks.causal(), normalizer=getattr(normalizers, name)(*arguments))


CASES: dict[str, Case] = {
    # Shapes.
    "full": Case(Spec, lse=True),
    "batches, GQA, wide values": Case(Spec, b=2, h=2, hk=1, n_q=33, n_k=65, d=24, dv=40, lse=True),
    "one token": Case(Spec, n_q=1, n_k=1, lse=True),
    "many keys for one query": Case(lambda: Spec(mask=masks.causal("bottom_right")), n_q=1, n_k=70, lse=True),
    "one channel": Case(Spec, d=1, dv=1),
    "tokens before heads": Case(lambda: Spec(mask=masks.causal()), b=2, kernel={"layout": "bnhd"}, lse=True),
    "bf16": Case(lambda: Spec(mask=masks.causal()), dtype=torch.bfloat16, lse=True),
    "fp16": Case(lambda: Spec(mask=masks.causal()), dtype=torch.float16, lse=True),
    "bf16, odd widths": Case(Spec, d=17, dv=3, dtype=torch.bfloat16),
    "no queries": Case(
        lambda: Spec(score=scores.relative_bias(LEARNED["by distance"])), n_q=0, learned=(LEARNED["by distance"],)
    ),
    "no heads": Case(Spec, h=0, hk=0),
    "fp16, sums of many keys": Case(
        lambda: attngen.mechanisms.linear("relu"), h=1, hk=1, n_q=3, n_k=70_000, dtype=torch.float16
    ),
    # Masks.
    "causal": Case(lambda: Spec(mask=masks.causal()), lse=True),
    "rows without keys": Case(lambda: Spec(mask=masks.causal("bottom_right")), n_q=50, n_k=20, lse=True),
    # One query more or less, and a tile of 32 queries would see all of a tile of keys.
    "two queries more": Case(lambda: Spec(mask=masks.causal("bottom_right")), h=1, hk=1, n_q=66, n_k=64),
    "window of 63": Case(lambda: Spec(mask=masks.sliding_window(63)), h=1, hk=1, n_q=70, n_k=70),
    "window": Case(lambda: Spec(mask=masks.sliding_window(9)), n_q=70, n_k=70, lse=True),
    "window, both sides": Case(lambda: Spec(mask=masks.window(5, 3)), n_k=53, lse=True),
    "sinks and window": Case(
        lambda: Spec(mask=masks.causal() & (masks.sink(3) | masks.sliding_window(6))), n_q=80, n_k=80
    ),
    "window before sinks": Case(lambda: Spec(mask=masks.sliding_window(4) | masks.sink(60)), n_q=80, n_k=80, lse=True),
    "prefix or causal": Case(lambda: Spec(mask=masks.prefix(5) | masks.causal()), lse=True),
    "chunked": Case(lambda: Spec(mask=masks.chunked(10) & masks.causal()), lse=True),
    "dilated": Case(lambda: Spec(mask=masks.dilated(5, 3)), lse=True),
    "lengths": Case(lambda: Spec(mask=masks.lengths(torch.tensor([0, 20]))), b=2, lse=True),
    "documents": Case(lambda: Spec(mask=masks.document(IDS) & masks.causal()), lse=True),
    "any condition": Case(lambda: Spec(mask=masks.Mask.of(lambda q, kv: (q * kv) % 3 != 1)), lse=True),
    "nothing": Case(lambda: Spec(mask=masks.Mask.of(lambda q, kv: q < 0)), lse=True),
    "neighborhood": Case(lambda: attngen.mechanisms.neighborhood((5, 8), (3, 4)), n_q=40, n_k=40, lse=True),
    "neighborhood, 3-D": Case(lambda: attngen.mechanisms.neighborhood((3, 4, 5), (3, 2, 3)), n_q=60, n_k=60),
    "neighborhood, dilated": Case(
        lambda: attngen.mechanisms.neighborhood((5, 8), (2, 3), dilation=(1, 2), is_causal=(True, False)),
        n_q=40,
        n_k=40,
    ),
    "neighborhood, sizes of each head": Case(
        lambda: attngen.mechanisms.neighborhood((5, 8), (2, torch.tensor([3, 5])), stride=(1, 2)),
        n_q=40,
        n_k=40,
        lse=True,
    ),
    # Grids of two tiles of 32 and more: tiles are boxes, some of them whole, and padded at the edge.
    "boxes": Case(lambda: attngen.mechanisms.neighborhood((9, 11), (5, 7)), h=1, hk=1, n_q=99, n_k=99, lse=True),
    "boxes, 3-D": Case(
        lambda: attngen.mechanisms.neighborhood((2, 8, 9), (2, 7, 9), is_causal=(False, True, False)),
        h=1,
        hk=1,
        n_q=144,
        n_k=144,
    ),
    "boxes, learned numbers": Case(
        lambda: Spec(
            mask=masks.neighborhood((8, 12), (torch.tensor([3, 5]), 7)),
            score=lambda score, h, q, kv: score + LEARNED["of a grid"][h, q] * LEARNED["of pairs of a grid"][q, kv],
            weight=weights.dropout(0.2, seed=5),
            space=attngen.Grid((8, 12)),
        ),
        hk=1,
        n_q=96,
        n_k=96,
        learned=(LEARNED["of a grid"], LEARNED["of pairs of a grid"]),
    ),
    "boxes, extra keys": Case(
        lambda: attngen.mechanisms.neighborhood((9, 11), (5, 7), extra_keys=True),
        h=1,
        hk=1,
        n_q=99,
        n_k=99,
        dv=11,
        lse=True,
        inputs={"extra_k": (1, 1, 45, 16), "extra_v": (1, 1, 45, 11)},
    ),
    "shifted windows": Case(lambda: attngen.mechanisms.shifted_windows((5, 8), (3, 4)), n_q=40, n_k=40),
    "vertical slash": Case(lambda: Spec(mask=masks.vertical_slash(*FLAGS)), n_k=53, lse=True),
    "power blocks": Case(lambda: attngen.mechanisms.power_attention(16, sinks=0), h=1, hk=1, n_q=130, n_k=130),
    "neighborhood and extra keys": Case(
        lambda: attngen.mechanisms.neighborhood((8, 9), (3, 4), extra_keys=True),
        n_q=72,
        n_k=72,
        dv=11,
        lse=True,
        inputs={"extra_k": (1, 2, 45, 16), "extra_v": (1, 2, 45, 11)},
    ),
    # Scores.
    "soft cap": Case(lambda: Spec(mask=masks.causal(), score=scores.soft_cap(5.0)), lse=True),
    "alibi": Case(lambda: Spec(mask=masks.causal(), score=scores.alibi(SLOPES)), h=4, hk=4, lse=True),
    "relative bias": Case(lambda: Spec(score=scores.relative_bias(torch.randn(2, 73))), lse=True),
    "pair bias": Case(lambda: Spec(score=_pair_bias), lse=True),
    "absent by score": Case(lambda: Spec(score=_absent), lse=True),
    # Normalizers.
    "sink": Case(_normalizer("softmax", torch.tensor([0.5, float("-inf")])), lse=True),
    "sink, no keys": Case(
        lambda: Spec(mask=masks.causal("bottom_right"), normalizer=normalizers.softmax(0.5)), n_q=40, n_k=9, lse=True
    ),
    "adjusted": Case(lambda: Spec(normalizer=normalizers.softmax(numerics="adjusted")), lse=True),
    "softmax1": Case(_normalizer("softmax1"), lse=True),
    "sigmoid": Case(_normalizer("sigmoid", -1.0)),
    "relu": Case(_normalizer("relu", 2)),
    "softplus_l1": Case(_normalizer("softplus_l1")),
    "cog": Case(_normalizer("cog")),
    "lssar": Case(_normalizer("lssar", 3, 0.5)),
    "entmax": Case(_normalizer("entmax", 1.5)),
    "entmax, steep": Case(_normalizer("entmax", 2.5)),
    "sparsemax": Case(_normalizer("entmax", 2.0)),
    "stick breaking": Case(_normalizer("stick_breaking"), n_q=70, n_k=70),
    # The last tile of keys sticks out over them, and whole tiles of queries see all of it.
    "stick breaking, fewer keys": Case(lambda: Spec(normalizer=normalizers.stick_breaking()), n_q=64, n_k=40),
    # Weights and combinations.
    "dropout": Case(lambda: Spec(mask=masks.causal(), weight=weights.dropout(0.3, seed=4)), lse=True),
    "dual triangle": Case(attngen.mechanisms.dual_triangle),
    "dual triangle across heads": Case(lambda: attngen.mechanisms.dual_triangle("across_heads"), h=3, hk=3, d=12, dv=6),
    "dual triangle, one softmax": Case(lambda: attngen.mechanisms.dual_triangle("joint"), d=12, dv=6, lse=True),
    "dual triangle, bf16": Case(attngen.mechanisms.dual_triangle, dtype=torch.bfloat16),
    # Learned tensors, by what their indices depend on.
    "learned slopes": Case(lambda: Spec(mask=masks.causal(), score=_slopes), b=2, learned=(LEARNED["slopes"],)),
    "learned sink": Case(
        lambda: Spec(mask=masks.causal("bottom_right"), normalizer=normalizers.softmax(LEARNED["sink"])),
        n_q=40,
        n_k=30,
        lse=True,
        learned=(LEARNED["sink"],),
    ),
    "learned biases": Case(
        lambda: Spec(mask=masks.sliding_window(20), score=_biases),
        b=2,
        lse=True,
        learned=(LEARNED["of queries"], LEARNED["of keys"]),
    ),
    "learned distances": Case(
        lambda: Spec(mask=masks.causal(), score=scores.relative_bias(LEARNED["by distance"])),
        b=2,
        learned=(LEARNED["by distance"],),
    ),
    "learned pairs": Case(lambda: Spec(score=_pairs), b=2, dtype=torch.bfloat16, learned=(LEARNED["of pairs"],)),
    "learned buckets, two heads": Case(lambda: Spec(score=_buckets), h=2, hk=1, learned=(LEARNED["of buckets"],)),
    "learned numbers, drawn": Case(lambda: Spec(score=_drawn), learned=(LEARNED["of thirds"],)),
    "learned weight": Case(lambda: Spec(weight=_weight), learned=(LEARNED["of keys"],)),
    # Numbers that are large, or not.
    "huge scores": Case(lambda: Spec(mask=masks.causal(), scale=1e4), lse=True, learned=None),
    "scores near the largest number": Case(lambda: Spec(scale=1e36), learned=None),
    "a scale of 0": Case(lambda: Spec(mask=masks.causal(), scale=0.0), lse=True),
    "a scale of 0 and a sink": Case(lambda: Spec(normalizer=normalizers.softmax(0.5), scale=0.0), lse=True),
}
PAIRS = torch.randn(2, 37, 37, generator=torch.Generator().manual_seed(3))


def _pair_bias(score: Any, h: Any, q: Any, kv: Any) -> Any:
    return score + PAIRS[h, q, kv]


def _absent(score: Any, q: Any, kv: Any) -> Any:
    return torch.where((q + kv) % 3 == 0, float("-inf"), score)


def _slopes(score: Any, h: Any, q: Any, kv: Any) -> Any:
    return score + LEARNED["slopes"][h] * (kv - q)


def _biases(score: Any, h: Any, q: Any, kv: Any) -> Any:
    return score + LEARNED["of queries"][h, q] + torch.tanh(LEARNED["of keys"][kv])


def _pairs(score: Any, q: Any, kv: Any) -> Any:
    return score * LEARNED["of pairs"][q, kv]


def _buckets(score: Any, h: Any, q: Any, kv: Any) -> Any:
    return score + LEARNED["of buckets"][h, torch.clamp(torch.abs(q - kv), max=7)]


def _drawn(score: Any, q: Any) -> Any:
    return score + LEARNED["of thirds"][q % 3, (weights.uniform(3) * 3).to(torch.int64)]


def _weight(kv: Any) -> Any:
    return LEARNED["of keys"][kv]
