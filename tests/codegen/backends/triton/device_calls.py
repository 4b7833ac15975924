"""Calls with tensors of a pretended device, under Triton's interpreter: fresh tensors, graphs, and what must not be.

The CPU is taken for a device that the host would have to wait for, and a graph is what torch and Triton were asked to
do, which can be done once more. A line of JSON for each check: its name and what it found, or a message.
"""

from __future__ import annotations

import json
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

import attngen
from attngen import masks
from attngen.codegen import on_device
from attngen.codegen.backends.triton.variants import Variants
from attngen.codegen.calls import checks, guard
from attngen.ir.nodes import Paged, Segments
from attngen.runtime.engine import engine
from tests.end_to_end.oracle import error, random

Found = dict[str, Any]
N = 70


class Graph(TorchDispatchMode):
    """What is launched while it is entered; `replay` does it again, into the same memory."""

    current: Graph | None = None

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Callable[..., Any], Any, Any, Any]] = []

    def __enter__(self) -> Any:
        Graph.current = self
        return super().__enter__()

    def __exit__(self, *arguments: Any) -> None:
        Graph.current = None
        super().__exit__(*arguments)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), options: Any = None) -> Any:
        found = function(*args, **(options or {}))
        self.steps.append((function, args, options or {}, found))
        return found

    def replay(self) -> None:
        with torch.no_grad():
            for function, args, options, there in self.steps:
                again = function(*args, **options)
                for old, new in zip(tree_leaves(there), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                        old.detach().copy_(new)


run = Variants.run


def noted(self: Variants, grid: Any, arguments: Sequence[Any]) -> None:
    """A kernel is one step, whatever the interpreter does for it."""
    with _disable_current_modes():  # type: ignore[no-untyped-call]
        run(self, grid, arguments)
    if Graph.current is not None:
        Graph.current.steps.append((run, (self, grid, arguments), {}, None))


@contextmanager
def capture() -> Iterator[Graph]:
    graph = Graph()
    with pytest.MonkeyPatch.context() as patch:
        for module in (on_device, guard):
            patch.setattr(module, "capturing", lambda device: True)
        with graph:
            yield graph


@dataclass(frozen=True)
class Case:
    """A spec, the shapes of q, k and v, the tensors that it reads, and other values of these. `given`: those of them
    that a call names; the others are captured."""

    spec: attngen.Spec
    shapes: Sequence[tuple[int, ...]]
    tensors: dict[str, Tensor]
    other: dict[str, Tensor]
    given: tuple[str, ...] = ()

    def qkv(self, seed: int) -> list[Tensor]:
        return [random(*shape, seed=seed + i) for i, shape in enumerate(self.shapes)]

    def fill(self, qkv: Sequence[Tensor]) -> None:
        """New values everywhere, in the same memory and without anybody's counting it."""
        for tensor, new in zip(qkv, self.qkv(9), strict=True):
            tensor.data.copy_(new)
        for name, new in self.other.items():
            self.tensors[name].data.copy_(new)

    def named(self) -> dict[str, Tensor]:
        return {name: self.tensors[name] for name in self.given}


ONE, HEADS, BATCHES = (((b, h, N, 16), (b, 1, N, 16), (b, 1, N, 24)) for b, h in ((1, 1), (1, 2), (2, 1)))


def documents() -> Case:
    ids = torch.arange(N) // 20
    spec = attngen.Spec(mask=masks.document(ids) & masks.causal())
    return Case(spec, ONE, {"ids": ids}, {"ids": (torch.arange(N) * 3) // 40 % 4})


def blocks() -> Case:
    table = torch.randint(-1, 2, (1, 2, 5, 5), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    spec = attngen.Spec(mask=lambda b, h, q, kv: table[b, h, q // 16, kv // 16] == 1)
    return Case(spec, HEADS, {"table": table}, {"table": (table + 2) % 3 - 1})


def lengths() -> Case:
    kv_lengths, ids = torch.tensor([30, N]), torch.arange(N) % 3
    spec = attngen.Spec(mask=masks.lengths(kv_lengths) & masks.document(ids))
    other = {"kv_lengths": torch.tensor([61, 0]), "ids": torch.arange(N) // 40}
    return Case(spec, BATCHES, {"kv_lengths": kv_lengths, "ids": ids}, other)


def learned() -> Case:
    kind, bias = torch.arange(N) % 5, random(5)
    spec = attngen.Spec(mask=masks.causal(), score=lambda score, q, kv: score + bias[kind[q]] - bias[kind[kv]])
    return Case(spec, ONE, {"kind": kind, "bias": bias}, {"kind": torch.arange(N) // 30, "bias": random(5, seed=8)})


def packed() -> Case:
    flat, kv_lengths = ((1, 2, N, 16), (1, 1, 70, 16), (1, 1, 70, 24)), torch.tensor([3, 50, 9, 7])
    offsets = {"cu_seqlens_q": torch.tensor([0, 30, 30, 65, N]), "cu_seqlens_k": torch.tensor([0, 5, 40, 63, 70])}
    other = {"cu_seqlens_q": torch.tensor([0, 0, 41, 42, N]), "cu_seqlens_k": torch.tensor([0, 1, 51, 70, 70])}
    spec = attngen.Spec(mask=masks.causal("bottom_right") & masks.lengths(kv_lengths), space=Segments())
    tensors = {**offsets, "kv_lengths": kv_lengths}
    return Case(spec, flat, tensors, {**other, "kv_lengths": torch.tensor([9, 25, 30, 2])}, tuple(offsets))


def pages() -> Case:
    ids = torch.stack([torch.arange(64) // 9, torch.arange(64) // 20])
    where = {"page_table": torch.tensor([[3, 1, 0, 4], [2, 5, -7, 9]]), "kv_lengths": torch.tensor([50, 20])}
    other = {"page_table": torch.tensor([[0, 1, 9, 9], [2, 5, 3, 4]]), "kv_lengths": torch.tensor([17, 64])}
    spec = attngen.Spec(mask=lambda b, kv: ids[b, kv] % 2 == 0, space=Paged(16))
    shapes = ((2, 2, 9, 16), (6, 1, 16, 16), (6, 1, 16, 24))
    return Case(spec, shapes, {**where, "ids": ids}, {**other, "ids": ids + 1}, tuple(where))


CASES = {f.__name__: f for f in (documents, blocks, lengths, learned, packed, pages)}


def both(kernel: attngen.Kernel, case: Case, qkv: Sequence[Tensor]) -> list[Tensor]:
    """The result and the gradients by q, k and v, without torch's dispatcher: a graph would be shown one operator
    instead of what it does."""
    (inputs, ints, floats), own = kernel._values(case.named()), kernel.engine()
    out, _, rows = own.forward(*qkv, inputs, ints, floats, False, True)
    assert rows is not None
    wanted = [True] * 3 + [False] * len(inputs)
    found = own.backward(cotangent(out), None, *qkv, rows, inputs, ints, floats, wanted)[:3]
    return [out, *(t for t in found if t is not None)]


def forward(kernel: attngen.Kernel, case: Case, qkv: Sequence[Tensor]) -> Tensor:
    """The result alone."""
    inputs, ints, floats = kernel._values(case.named())
    return kernel.engine().forward(*qkv, inputs, ints, floats, False)[0]


def cotangent(out: Tensor) -> Tensor:
    return torch.linspace(-1, 1, out.numel()).view(out.shape).to(out.dtype)


def gaps(case: Case, kernel: attngen.Kernel, found: Sequence[Tensor], qkv: Sequence[Tensor]) -> list[float]:
    leaves = [t.detach().requires_grad_() for t in qkv]
    out = kernel.reference(*leaves, **case.named())
    exact = [out.detach(), *torch.autograd.grad(out, leaves, cotangent(out))]
    return [error(a, b) for a, b in zip(found, exact, strict=True)]


def replayed() -> Found:
    """A graph of both directions follows what its inputs hold when it is replayed."""
    found, moved = {}, {}
    for name, make in CASES.items():
        case = make()
        kernel, qkv = attngen.compile(case.spec, backend="triton"), case.qkv(1)
        both(kernel, case, qkv)
        with capture() as graph:
            results = both(kernel, case, qkv)
        captured, before = gaps(case, kernel, results, qkv), results[0].detach().clone()
        case.fill(qkv)
        graph.replay()
        found[name] = [*captured, *gaps(case, kernel, results, qkv)]
        moved[name] = error(results[0].detach(), before)
    return {"errors": found, "moved": moved}


def stale() -> Found:
    """What this file would say if a table were not part of the graph."""
    case = documents()
    kernel, qkv = attngen.compile(case.spec, backend="triton"), case.qkv(1)
    both(kernel, case, qkv)
    with Graph() as graph:  # nobody is told that a graph is captured
        results = both(kernel, case, qkv)
    case.fill(qkv)
    graph.replay()
    return {"errors": gaps(case, kernel, results, qkv)}


def said(call: Callable[[], Any]) -> str:
    try:
        call()
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}".partition("\n")[0]
    return "nothing"


BAD: dict[str, tuple[Callable[[], Case], str, Callable[[], Tensor]]] = {
    "an index": (learned, "kind", lambda: torch.full((N,), 5)),
    "a negative index": (learned, "kind", lambda: torch.full((N,), -1)),
    "a lane": (documents, "ids", lambda: torch.full((N,), 2**31)),
    "offsets": (packed, "cu_seqlens_k", lambda: torch.tensor([0, 50, 40, 63, 70])),
    "an end": (packed, "cu_seqlens_q", lambda: torch.tensor([0, 30, 30, 65, N - 1])),
    "a page": (pages, "page_table", lambda: torch.tensor([[3, 1, 6, 4], [2, 5, -7, 9]])),
    "a length": (pages, "kv_lengths", lambda: torch.tensor([65, 20])),
}


def wrong() -> Found:
    """At the first call, at a later one, and in a graph that is replayed."""
    found: dict[str, list[str]] = {}
    for name, (make, key, value) in BAD.items():
        # Kernels of the same text share what they have seen.
        engine.cache_clear()
        case = make()
        kernel, qkv, right = attngen.compile(case.spec, backend="triton"), case.qkv(1), case.tensors[key].clone()
        call = partial(forward, kernel, case, qkv)
        case.tensors[key].copy_(value())
        found[name] = [said(call)]
        case.tensors[key].copy_(right)
        call()
        case.tensors[key].copy_(value())
        found[name].append(said(call))
        case.tensors[key].copy_(right)
        with capture() as graph:
            call()
        case.tensors[key].data.copy_(value())
        found[name].append(said(graph.replay))
    return {"said": found}


def asked_again() -> Found:
    """Where bounds do not do, every tensor is looked at by the host, and no graph holds the call."""
    kind, bias = torch.arange(N), random(N)
    spec = attngen.Spec(mask=masks.causal(), score=lambda score, q, kv: score + bias[kind[q] - kind[kv]])
    case = Case(spec, ONE, {"kind": kind}, {})
    kernel, qkv = attngen.compile(spec, backend="triton"), case.qkv(1)
    call = partial(forward, kernel, case, qkv)
    errors = [error(call(), kernel.reference(*qkv))]
    kind.copy_(torch.arange(N) // 2)
    errors.append(error(call(), kernel.reference(*qkv)))
    with capture():
        refused = said(call)
    kind.copy_(torch.arange(N).flip(0))
    return {"errors": errors, "refused": refused, "wrong": said(call)}


CHECKS = (replayed, stale, wrong, asked_again)


def main() -> None:
    warnings.simplefilter("error")
    for module in (on_device, guard, checks):
        module.waits = lambda device: True  # type: ignore[attr-defined]
    Variants.run = noted  # type: ignore[method-assign]
    for check in CHECKS:
        try:
            found = check()
        except Exception:
            found = {"failed": traceback.format_exc()}
        print(json.dumps({"name": check.__name__, **found}), flush=True)


if __name__ == "__main__":
    main()
