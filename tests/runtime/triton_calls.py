"""Calls of Triton kernels as programs make them, under Triton's interpreter: traced, from several threads, and wrong.

A line of JSON for each check: its name and what it found, or a message.
"""

from __future__ import annotations

import json
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.utils import counters

import attngen
from attngen import masks
from attngen.errors import AttngenError
from tests.end_to_end.oracle import error
from tests.end_to_end.oracle import operands as any_operands

SLOPES = torch.tensor([0.5, 0.25, 1.0, 0.125]).requires_grad_()
Found = dict[str, Any]


def operands(n_q: int, **sizes: int) -> tuple[Tensor, ...]:
    return any_operands(b=1, n_q=n_q, **sizes)


def kernel() -> attngen.Kernel:
    """Causal, with a slope for each head, which is learned."""
    return attngen.compile(attngen.Spec(mask=masks.causal(), score=_score), backend="triton")


def _score(score: Any, h: Any, q: Any, kv: Any) -> Any:
    return score - SLOPES[h] * (q - kv)


def step(run: Callable[..., Any], qkv: tuple[Tensor, ...]) -> list[Tensor]:
    """The result, and its gradients by q, k, v and the slopes."""
    leaves = [t.detach().requires_grad_() for t in qkv]
    out = run(*leaves)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [out.detach(), *torch.autograd.grad(out, [*leaves, SLOPES], weights)]


def errors(found: list[Tensor], exact: list[Tensor]) -> list[float]:
    return [error(a, b) for a, b in zip(found, exact, strict=True)]


def compiled() -> Found:
    """Forward and backward under torch.compile: one graph, also at another length."""
    attention = kernel()
    counters.clear()
    traced = torch.compile(lambda q, k, v: attention(q * 2, k, v) * 3, fullgraph=True, backend="aot_eager")
    gaps = []
    for n in (21, 34):
        qkv = operands(n_q=n)
        gaps += errors(step(traced, qkv), step(lambda q, k, v: attention.reference(q * 2, k, v) * 3, qkv))
    return {"gap": max(gaps), "breaks": dict(counters["graph_break"]), "graphs": counters["stats"]["unique_graphs"]}


def compiled_log_sum_exp() -> Found:
    """Both results have gradients, and the kernel reads block tables."""
    ids = torch.arange(40) // 9
    attention = attngen.compile(attngen.Spec(mask=masks.document(ids)), backend="triton")
    traced = torch.compile(lambda *qkv: attention(*qkv, return_lse=True), fullgraph=True, backend="aot_eager")

    def gradients(run: Callable[..., Any]) -> list[Tensor]:
        leaves = [t.detach().requires_grad_() for t in operands(n_q=40)]
        out, lse = run(*leaves)
        loss = (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum() + lse.square().sum()
        return [out.detach(), lse.detach(), *torch.autograd.grad(loss, leaves)]

    return {"gap": max(errors(gradients(traced), gradients(lambda *qkv: attention.reference(*qkv, return_lse=True))))}


def two_threads() -> Found:
    """Both begin with kernels that nobody has built; each gets what it would get alone, to the bit."""
    attention, given = kernel(), [operands(n_q=n, seed=n) for n in (21, 37)]
    found: list[list[list[Tensor]]] = [[], []]
    start = threading.Barrier(2)

    def work(i: int) -> None:
        start.wait()
        found[i] += [step(attention, given[i]) for _ in range(2)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = [step(attention, qkv) for qkv in given]
    same = [torch.equal(a, b) for i in range(2) for one in found[i] for a, b in zip(one, alone[i], strict=True)]
    return {"same": same}


def backward_in_another_thread() -> Found:
    """As autograd does it on a GPU, which has a thread for each device."""
    attention, leaves = kernel(), [t.requires_grad_() for t in operands(n_q=37)]
    expected = step(attention, tuple(leaves))
    out = attention(*leaves)
    weights = torch.linspace(-1, 1, out.numel()).view(out.shape)
    found: list[Tensor] = []
    thread = threading.Thread(target=lambda: found.extend(torch.autograd.grad(out, [*leaves, SLOPES], weights)))
    thread.start()
    thread.join()
    return {"same": [torch.equal(a, b) for a, b in zip([out.detach(), *found], expected, strict=True)]}


def refusals() -> Found:
    """What is said to calls that cannot be."""
    attention, (q, k, v) = kernel(), operands(n_q=9)
    plain = attngen.compile(attngen.Spec(), backend="triton")
    calls: dict[str, Callable[[], Any]] = {
        "wide heads": lambda: plain(*operands(n_q=9, d=257, dv=16)),
        "wide values": lambda: plain(*operands(n_q=9, dv=300)),
        "wide heads, gradients": lambda: plain(*(t.requires_grad_() for t in operands(n_q=9, d=320))),
        "float64": lambda: plain(q.double(), k.double(), v.double()),
        "keys elsewhere": lambda: attention(q, k.to("meta"), v),
        "an input elsewhere": lambda: GATED(q, k, v, gate=torch.ones(4, device="meta")),
    }
    said: Found = {}
    for name, call in calls.items():
        try:
            call()
        except AttngenError as problem:
            said[name] = str(problem)
    return said


GATED = attngen.compile(attngen.Spec(score="score * gate[h]"), backend="triton")
CHECKS = (compiled, compiled_log_sum_exp, two_threads, backward_in_another_thread, refusals)


def main() -> None:
    warnings.simplefilter("error")
    # What torch.compile says of its own internals.
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", FutureWarning)
    for check in CHECKS:
        try:
            found = check()
        except Exception:
            found = {"failed": traceback.format_exc()}
        print(json.dumps({"name": check.__name__, **found}), flush=True)


main()
