"""One process of a data-parallel training with a Triton kernel, under Triton's interpreter: `RANK STORE`.

A line of JSON for each way of training: what the parameters are after a step, how far from those of one process that
sees the whole batch, and which kernels were built.
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import attngen
from attngen.pipeline import compile_backward

RANKS, WIDTH, HEADS = 2, 16, 2


class Attention(nn.Module):
    """Causal self-attention with a slope for each head, which is learned."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.slopes = nn.Parameter(torch.rand(HEADS))
        self.project, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

        def score(score: Any, h: Any, q: Any, kv: Any) -> Any:
            return score - self.slopes[h] * (q - kv)

        self.kernel = attngen.compile(attngen.Spec(mask=attngen.masks.causal(), score=score), backend="triton")

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (t.view(b, n, HEADS, WIDTH // HEADS).transpose(1, 2) for t in self.project(x).chunk(3, -1))
        out: Tensor = self.out(self.kernel(q, k, v).transpose(1, 2).reshape(b, n, WIDTH))
        return out


def model() -> nn.Sequential:
    return nn.Sequential(Attention(), nn.Linear(WIDTH, WIDTH))


def sharded() -> Any:
    """A block that gives its parameters back after the forward, and gathers them anew for the backward."""
    made = model()
    fully_shard(made[0])
    return fully_shard(made)


def train(module: nn.Module, x: Tensor) -> None:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    module(x).square().mean().backward()
    optimizer.step()


def parameters(module: nn.Module) -> list[Tensor]:
    return [(t.full_tensor() if isinstance(t, DTensor) else t).detach() for t in module.parameters()]


def built(attention: Any) -> list[str]:
    """Configs and addresses in the cache of everything that ran."""
    found = []
    for compiled in (each for kept in attention.kernel.engine()._compiled.values() for each in kept.values()):
        backward = compile_backward(compiled, frozenset({"slopes"}))
        found += [f"{each.config} {each.built.directory.name}" for each in (compiled, backward)]
    return found


def main(rank: int, store: str) -> None:
    warnings.simplefilter("error")
    # A layer of torch's ends in a view.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    patience = timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS, timeout=patience)
    x = torch.randn(RANKS, 21, WIDTH, generator=torch.Generator().manual_seed(1))
    before, alone = parameters(model()), model()
    train(alone, x)
    whole = parameters(alone)
    for name, module in (("ddp", DistributedDataParallel(model())), ("fsdp", sharded())):
        train(module, x.chunk(RANKS)[rank])
        after = parameters(module)
        told = {
            "name": name,
            "sharded": sum(isinstance(t, DTensor) for t in module.parameters()),
            "bits": hashlib.sha256(b"".join(t.numpy().tobytes() for t in after)).hexdigest(),
            "gap": max(float((a - b).norm() / b.norm()) for a, b in zip(after, whole, strict=True)),
            "moved": min(float((a - b).norm() / b.norm()) for a, b in zip(after, before, strict=True)),
            "built": built(module.module[0] if name == "ddp" else module[0]),
        }
        print(json.dumps(told), flush=True)
    dist.destroy_process_group()


main(int(sys.argv[1]), sys.argv[2])
