"""Tensors of the right shapes for a spec, whatever it declares."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attngen.ir.nodes import Given, Grid, Input, Paged, Project, Segments, Spec
from tests.strategies import EXTRA_KEYS, FREE

OFFSETS_Q, OFFSETS_K = (0, 2, 2, 5), (0, 3, 4, 6)


def tensors_for(spec: Spec, seed: int = 0, heads: int = 2, width: int = 4) -> dict[str, Tensor]:
    """A small call: two batches (three packed sequences), `heads` heads, half as many for k and v."""
    return _Call(spec, seed, heads, width).tensors()


class _Call:
    def __init__(self, spec: Spec, seed: int, heads: int, width: int) -> None:
        self.spec, self.heads, self.width = spec, heads, width
        self.generator = torch.Generator().manual_seed(seed)
        space = spec.space
        self.n_b = len(OFFSETS_Q) - 1 if isinstance(space, Segments) else 2
        self.n_q, self.n_k = 5, 6
        if isinstance(space, Grid):
            self.n_q = self.n_k = math.prod(space.dims)
        if any(b.decay is not None for b in spec.branches):
            self.n_k = self.n_q

    def random(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=self.generator)

    def tensors(self) -> dict[str, Tensor]:
        spec, d, kv_heads = self.spec, self.width, max(1, self.heads // 2)
        n_b = 1 if isinstance(spec.space, Segments) else self.n_b
        keys = (self.n_b * 3, kv_heads, spec.space.page) if isinstance(spec.space, Paged) else (n_b, kv_heads, self.n_k)
        found = {"q": self.random(n_b, self.heads, self.n_q, d), "k": self.random(*keys, d), "v": self.random(*keys, d)}
        return found | {i.name: self.input(i) for i in spec.inputs}

    def input(self, node: Input) -> Tensor:
        space, name = self.spec.space, node.name
        match space:
            case Segments(q_offsets=q, k_offsets=k) if name in (q, k):
                return torch.tensor(OFFSETS_Q if name == q else OFFSETS_K)
            case Paged(table=table) if name == table:
                return torch.randperm(self.n_b * 3, generator=self.generator).reshape(self.n_b, 3)
            case Paged(lengths=lengths) if name == lengths:
                return torch.tensor([5, 0])
        for router in self.spec.routers:
            if router.rule == Given(name):
                blocks = (-(-self.n_q // router.query_block), -(-self.n_k // router.key_block))
                return self.integers(-1, 2, 1, self.heads, *blocks)
        if name in ("extra_k", "extra_v"):
            return self.random(1, self.heads, EXTRA_KEYS, self.width)
        if isinstance(self.spec.combine, Project) and name in self.spec.combine.weights:
            view = self.spec.branches[0].v
            width = self.width if view.start is None and view.stop is None else self.width // 2
            return self.random(width, width)
        sizes = {"b": self.n_b, "h": self.heads, "q": self.n_q, "kv": self.n_k, "?": FREE}
        shape = [sizes[axis] for axis in node.axes]
        match node.type:
            case "bool":
                return self.integers(0, 2, *shape).bool()
            case "int":
                return self.integers(-2, 5, *shape)
            case "float":
                return self.random(*shape)
