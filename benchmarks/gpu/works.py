"""What is computed: shapes, the spec for attngen, the same as plain functions of indices, and the visible pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

import attngen
from attngen import masks, mechanisms

Tensors = Mapping[str, Tensor]
Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Size:
    """Batches, heads, tokens and channels, in bf16; `grid`: how the tokens lie, where they are no sequence."""

    b: int
    h: int
    n: int
    d: int
    grid: tuple[int, ...] = ()


def nothing(size: Size) -> dict[str, Tensor]:
    """No captured tensors."""
    return {}


def everything(size: Size, tensors: Tensors) -> int:
    """Every key of every query."""
    return size.n * size.n


def triangle(size: Size, tensors: Tensors) -> int:
    """The pairs of a causal mask."""
    return size.n * (size.n + 1) // 2


@dataclass(frozen=True, slots=True)
class Work:
    """One attention. `tensors`: what its functions capture. `mask` (b, h, q, kv) and `score` (score, b, h, q, kv) are
    FlexAttention's functions, for it and for the check of results; `dense`: neither, and yet not everything is seen.

    `pairs` counts the visible pairs of one head: useful FLOPs are theirs.
    """

    name: str
    size: Size
    spec: Callable[[Size, Tensors], attngen.Spec]
    pairs: Callable[[Size, Tensors], int] = everything
    tensors: Callable[[Size], dict[str, Tensor]] = nothing
    mask: Callable[[Size, Tensors], Function] | None = None
    score: Callable[[Size, Tensors], Function] | None = None
    opaque: bool = False

    def flops(self, backward: bool) -> float:
        """Two products of every visible pair in the forward, five in the backward."""
        size = self.size
        pairs = self.pairs(size, self.tensors(size))
        return (10.0 if backward else 4.0) * size.b * size.h * pairs * size.d

    def captured(self, device: str) -> dict[str, Tensor]:
        """The captured tensors on a device."""
        return {name: tensor.to(device) for name, tensor in self.tensors(self.size).items()}

    def operands(self, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """q, k, v and a cotangent; normal numbers, since zeros draw less power."""
        size = self.size
        generator = torch.Generator(device).manual_seed(0)
        shape = (size.b, size.h, size.n, size.d)
        q, k, v, dout = (torch.randn(shape, generator=generator, device=device, dtype=torch.bfloat16) for _ in range(4))
        return q, k, v, dout


def dense(size: Size) -> Work:
    """Every key."""
    return Work("full", size, lambda size, tensors: attngen.Spec())


def neighborhood(name: str, size: Size, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Work:
    """The nearest keys on a grid, in groups of `stride` queries."""
    return Work(
        name,
        size,
        lambda size, tensors: mechanisms.neighborhood(size.grid, kernel, stride),
        pairs=lambda size, tensors: size.n * prod(kernel),
        mask=lambda size, tensors: near(size.grid, kernel, stride),
    )


def near(grid: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...]) -> Function:
    """The mask of a neighborhood, as a function of flat indices."""

    def mask(b: Any, h: Any, q: Any, kv: Any) -> Any:
        seen = None
        step = prod(grid)
        for length, extent, group in zip(grid, kernel, stride, strict=True):
            step //= length
            i, j = q // step % length, kv // step % length
            leader = torch.clamp(i // group * group + group // 2, max=length - 1) if group > 1 else i
            start = torch.clamp(torch.clamp(leader - extent // 2, max=length - extent), min=0)
            inside = (j >= start) & (j < start + extent)
            seen = inside if seen is None else seen & inside
        return seen

    return mask


def geometries(dry: bool) -> list[Work]:
    """The rows that stand beside dense cuDNN: windows in one, two and three dimensions."""
    if dry:
        return [
            neighborhood("window-1d", Size(1, 2, 32, 16, (32,)), (8,), (1,)),
            neighborhood("flux", Size(1, 2, 32, 16, (4, 8)), (2, 4), (2, 2)),
            neighborhood("hunyuan", Size(1, 2, 24, 16, (2, 4, 3)), (2, 3, 2), (2, 1, 2)),
        ]
    return [
        neighborhood("window-1d", Size(4, 16, 32768, 128, (32768,)), (2048,), (1,)),
        neighborhood("flux", Size(1, 24, 65536, 128, (256, 256)), (80, 80), (16, 16)),
        neighborhood("hunyuan", Size(1, 24, 115200, 128, (30, 48, 80)), (18, 24, 24), (16, 8, 8)),
    ]


def dual_triangle(size: Size) -> Work:
    """Two triangles of half the channels each: as many products as one of all channels."""
    return Work("dual-triangle", size, lambda size, tensors: mechanisms.dual_triangle(), pairs=triangle, opaque=True)


def sparse_linear(size: Size) -> Work:
    """SLA: five of a hundred blocks; the linear branch is not counted as useful."""
    return Work(
        "sparse-linear",
        size,
        lambda size, tensors: mechanisms.sparse_linear(topk=0.05, projection=False),
        pairs=lambda size, tensors: size.n * size.n // 20,
        opaque=True,
    )


def causal(size: Size) -> Work:
    """Keys up to the query."""
    return Work(
        "causal",
        size,
        lambda size, tensors: attngen.Spec(mask=masks.causal()),
        pairs=triangle,
        mask=lambda size, tensors: lambda b, h, q, kv: q >= kv,
    )
