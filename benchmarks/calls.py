"""What a call costs beyond its arithmetic: compilation before the first one, overhead of every one after it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

import attngen
from benchmarks.child import output_of
from benchmarks.measure import QUIET, Row, interleave, remark
from benchmarks.peak import Peak

FORWARD = """
import time, torch, attngen
q = torch.randn(1, 2, 256, 64)
start = time.perf_counter()
attngen.compile(attngen.Spec())(q, q, q)
first = time.perf_counter() - start
start = time.perf_counter()
slope = 0.5
kernel = attngen.compile(attngen.Spec(mask=lambda q, kv: q >= kv, score=lambda score, q, kv: score - slope * (q - kv)))
kernel(q, q, q)
print(first, time.perf_counter() - start)
"""

GRADIENT = """
import time, torch, attngen
q = torch.randn(1, 2, 256, 64, requires_grad=True)
def gradient(**parts):
    start = time.perf_counter()
    torch.autograd.grad(attngen.compile(attngen.Spec(**parts))(q, q, q).sum(), q)
    return time.perf_counter() - start
first = gradient()
slope = 0.5
print(first, gradient(mask=lambda q, kv: q >= kv, score=lambda score, q, kv: score - slope * (q - kv)))
"""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds from a spec to its first result or gradient: nothing cached, then a warm cache.

    `start` is the first kernel of a process with a warm cache, which also imports attngen's own modules; the others are
    of its second kernel.
    """

    cold: float
    warm: float
    start: float
    quiet: bool

    def figures(self, prefix: str) -> dict[str, float]:
        """The seconds by the names that JSON has for them."""
        return {f"{prefix}_{kind}_s": getattr(self, kind) for kind in ("cold", "warm", "start")}

    def notes(self, what: str) -> list[str]:
        """The lines to print; `what` names the end of the wait."""
        busy = remark(self.quiet)
        return [
            f"spec to first {what}, nothing cached: {self.cold:.2f} s (target <= 2 s){busy}",
            f"spec to first {what}, warm cache: {self.warm * 1e3:.0f} ms (target <= 50 ms){busy}",
            f"first {what} of a process, warm cache, imports included: {self.start * 1e3:.0f} ms{busy}",
        ]


def compile_times(script: str, peak: Peak, rounds: int = 3) -> Times:
    """The times that `script` prints in fresh processes."""
    cold, warm, start = [], [], []
    rates = [peak.measure("fp32")]
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            cold.append(_both(script, folder)[1])
            first, second = _both(script, folder)
            start.append(first)
            warm.append(second)
        rates.append(peak.measure("fp32"))
    quiet = min(rates) >= QUIET * peak.best["fp32"]
    return Times(median(cold), median(warm), median(start), quiet)


def _both(script: str, folder: str) -> tuple[float, float]:
    first, second = output_of("-c", script, ATTNGEN_CACHE_DIR=folder).split()
    return float(first), float(second)


CALLS = 1000
"""Calls in each run of a comparison of overheads."""


def overhead(peak: Peak, rounds: int) -> Row:
    """Calls beyond their arithmetic: a kernel of one token."""
    q = torch.randn(1, 1, 1, 16)
    kernel = attngen.compile(attngen.Spec(mask=attngen.masks.causal()))
    with torch.no_grad():
        return interleave({"attngen": many(lambda: kernel(q, q, q))}, peak, "fp32", rounds)


def overhead_with_gradients(peak: Peak, rounds: int) -> Row:
    """The same with gradients: "both", forward and backward; "forward", a call that records for the backward; "torch",
    both of an operation of torch's own that does nothing."""
    q, k, v = (torch.randn(1, 1, 1, 16, requires_grad=True) for _ in range(3))
    dout = torch.randn(1, 1, 1, 16)
    kernel = attngen.compile(attngen.Spec(mask=attngen.masks.causal()))
    contenders = {
        "both": many(lambda: torch.autograd.grad(kernel(q, k, v), (q, k, v), dout)),
        "forward": many(lambda: kernel(q, k, v)),
        "torch": many(lambda: torch.autograd.grad(Nothing.apply(q, k, v), (q, k, v), dout)),
    }
    return interleave(contenders, peak, "fp32", rounds)


class Nothing(torch.autograd.Function):
    """The least that an operation with three gradients costs, written in Python."""

    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return torch.empty_like(q)

    @staticmethod
    def backward(ctx, dout):
        return tuple(torch.empty_like(t) for t in ctx.saved_tensors)


def many(call: Callable[[], object]) -> Callable[[], None]:
    """The call, CALLS times."""

    def run() -> None:
        for _ in range(CALLS):
            call()

    return run
