"""CUDA graphs on a real device, and no waiting for it; elsewhere device_calls.py, beside those of Triton, pretends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks
from tests.end_to_end.oracle import error

pytestmark = pytest.mark.gpu
N = 300


@contextmanager
def no_waiting() -> Iterator[None]:
    """Torch raises for every operation that waits for the device."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def on_device(*tensors: Tensor) -> list[Tensor]:
    return [t.to("cuda", torch.bfloat16) if t.is_floating_point() else t.to("cuda") for t in tensors]


def documents() -> tuple[Any, Tensor, list[Tensor]]:
    """A kernel that reads ids, the ids, and q, k and v."""
    (ids,) = on_device(torch.arange(N) // 70)
    kernel = attngen.compile(attngen.Spec(mask=masks.document(ids) & masks.causal()))
    return kernel, ids, on_device(*torch.randn(3, 1, 2, N, 64))


def test_a_graph_sees_what_its_inputs_hold_at_each_replay() -> None:
    kernel, ids, qkv = documents()
    kernel(*qkv)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = kernel(*qkv)
    for size in (70, 41, 300):
        ids.copy_(torch.arange(N) // size)
        qkv[0].normal_()
        graph.replay()
        assert error(out.cpu(), kernel.reference(*qkv).cpu()) <= 1e-2


def test_a_graph_of_training() -> None:
    kernel, ids, qkv = documents()
    leaves = [t.requires_grad_() for t in qkv]

    def step() -> list[Tensor]:
        out = kernel(*leaves)
        return [out, *torch.autograd.grad(out.float().square().sum(), leaves)]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step()
    ids.copy_(torch.arange(N) // 33)
    graph.replay()
    replayed = [t.clone() for t in found]
    assert all(torch.equal(a, b) for a, b in zip(replayed, step(), strict=True))


def test_fresh_tensors_wait_for_nothing() -> None:
    kernel, ids, qkv = documents()
    kernel(*qkv)
    fresh = [[t.clone() for t in qkv] for _ in range(3)]
    more = [torch.arange(N, device="cuda") // size for size in (10, 50, 90)]
    torch.cuda.synchronize()
    with no_waiting():
        outs = []
        for tensors, now in zip(fresh, more, strict=True):
            ids.copy_(now)
            outs.append(kernel(*tensors))
    ids.copy_(more[-1])
    assert error(outs[-1].cpu(), kernel.reference(*fresh[-1]).cpu()) <= 1e-2


def test_a_capture_before_the_first_call_is_refused() -> None:
    kernel, _, qkv = documents()
    with (
        pytest.raises(attngen.errors.UnsupportedError, match="before the capture"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        kernel(*qkv)
