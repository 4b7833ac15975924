"""Memory of forward and backward beyond the tensors of the call, in processes of their own.

    python -m benchmarks.memory N DTYPE

prints bytes: the highest resident memory during the call less that before it.
"""

from __future__ import annotations

import gc
import resource
import sys
from pathlib import Path

import torch

import attngen
from benchmarks.child import output_of
from benchmarks.tables import Results, Section
from benchmarks.work import DTYPES, gradients

H, D = 4, 64
MOST_GROWTH = 1.25
"""The largest length may take this many times the bytes per element of the smallest: memory is linear, or it is not."""

HEADER = ["dtype", "N", "MiB", "bytes per token, head and dim", "one N x N matrix", "target", "met"]


def extra(n: int, dtype: str) -> int:
    """Bytes above those resident before: results, gradients, what is saved and every sum on the way."""
    kernel = attngen.compile(attngen.Spec())

    def call(length: int) -> object:
        q, k, v = (torch.randn(1, H, length, D, dtype=DTYPES[dtype]) for _ in range(3))
        return gradients(lambda: kernel(q, k, v), torch.randn_like(v), q, k, v)

    call(64)()  # code, threads and their stacks
    run = call(n)
    gc.collect()
    before = resident()
    run()
    return max(highest() - before, 0)


def resident() -> int:
    """Bytes resident now; where the system allows it, the highest starts again from here."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _status("VmRSS")
    except OSError:
        return highest()


def highest() -> int:
    """Bytes resident at most since the start, or since `resident`."""
    try:
        return _status("VmHWM")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def measure(lengths: tuple[int, ...], results: Results) -> Section:
    """The table over lengths; keeps the figures."""
    section = Section(f"Memory of forward + backward beyond its inputs, H {H}, D {D}", HEADER)
    for dtype in DTYPES:
        first = 0.0
        for n in lengths:
            taken = int(output_of("-m", "benchmarks.memory", str(n), dtype))
            each = taken / (n * H * D)
            first = first or each
            target, verdict = "", ""
            if n == lengths[-1]:
                target, verdict = f"<= {MOST_GROWTH} x the first", "yes" if each <= MOST_GROWTH * first else "no"
            results.other.setdefault("memory", []).append(
                {"dtype": dtype, "h": H, "n": n, "d": D, "bytes": taken, "per_element": each, "target_met": verdict}
            )
            square = 4 * n / D
            section.add([dtype, str(n), f"{taken / 2**20:.1f}", f"{each:.1f}", f"{square:.0f}", target, verdict])
    return section


if __name__ == "__main__":
    print(extra(int(sys.argv[1]), sys.argv[2]))
