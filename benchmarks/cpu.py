"""The CPU table: attngen next to torch SDPA and FlexAttention in one process.

    python -m benchmarks.cpu [--rounds 9] [--quick] [--output benchmarks/results/NAME]

Prints medians, ratios, the share of the FMA peak of the same run, compile times and the overhead of a call; writes JSON
and Markdown with --output. Where the machine is busy a row says so and concludes nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from rich.table import Table

import attngen
from attngen.codegen.backends.cpu import isa
from benchmarks.measure import Row, interleave
from benchmarks.peak import Peak

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
console = Console(width=130)


@dataclass(frozen=True, slots=True)
class Work:
    """One row of the table: useful FLOPs are those of visible (query, key) pairs. Targets: ratio and share of peak."""

    name: str
    dtype: str
    b: int
    h: int
    n: int
    d: int
    mask: str
    peer: str
    ratio: float
    share: float | None

    @property
    def pairs(self) -> int:
        match self.mask:
            case "causal":
                return self.n * (self.n + 1) // 2
            case "window":
                return sum(min(i + 1, 256) for i in range(self.n))
            case _:
                return self.n * self.n

    @property
    def flops(self) -> float:
        return 4.0 * self.b * self.h * self.pairs * self.d


@dataclass
class Results:
    """What one run found, ready for JSON."""

    machine: str
    isa: str
    threads: int
    torch: str
    commit: str
    command: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    other: dict[str, Any] = field(default_factory=dict)


def table() -> list[Work]:
    """The forward rows: full and causal against SDPA, a window against FlexAttention."""
    rows = []
    for mask, share32, share16 in (("full", 0.80, 0.70), ("causal", 0.72, 0.62)):
        for d, n in ((64, 2048), (64, 4096), (128, 2048), (128, 4096)):
            rows.append(Work(f"{mask} D {d} N {n}", "fp32", 1, 8, n, d, mask, "sdpa", 2.2, share32))
            rows.append(Work(f"{mask} D {d} N {n}", "bf16", 1, 8, n, d, mask, "sdpa", 4.0, share16))
    for d, ratio32, ratio16 in ((64, 2.5, 8.0), (128, 1.8, 4.0)):
        rows.append(Work(f"window 256 of 4096 D {d}", "fp32", 1, 8, 4096, d, "window", "flex", ratio32, None))
        rows.append(Work(f"window 256 of 4096 D {d}", "bf16", 1, 8, 4096, d, "window", "flex", ratio16, None))
    return rows


def contenders(work: Work) -> dict[str, Any]:
    """Callables by name; each runs the same attention on the same tensors."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(work.b, work.h, work.n, work.d, dtype=DTYPES[work.dtype]) for _ in range(3))
    masks = {
        "full": None,
        "causal": attngen.masks.causal(),
        "window": attngen.masks.sliding_window(256),
    }
    kernel = attngen.compile(attngen.Spec(mask=masks[work.mask]))
    found: dict[str, Any] = {"attngen": lambda: kernel(q, k, v)}
    if work.peer == "sdpa":
        found["sdpa"] = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=work.mask == "causal")
    else:
        found["flex"] = flex_window(q, k, v)
    expected, got = found[work.peer]().float(), found["attngen"]().float()
    error = float((expected - got).norm() / expected.norm())
    if error > (1e-4 if work.dtype == "fp32" else 2e-2):
        raise SystemExit(f"{work.name} {work.dtype}: attngen and {work.peer} differ by {error:.1e}")
    return found


def flex_window(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    """FlexAttention with the same window, its block mask built beforehand."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def window(b: Any, h: Any, i: Any, j: Any) -> Any:
        return (i >= j) & (i - j < 256)

    block_mask = create_block_mask(window, None, None, q.shape[2], k.shape[2], device="cpu")
    compiled = torch.compile(flex_attention, dynamic=False)

    def run() -> Any:
        with torch.no_grad():
            return compiled(q, k, v, block_mask=block_mask)

    return run


def report(work: Work, row: Row, results: Results) -> list[str]:
    """One line of the printed table; keeps the figures."""
    ours, peer = row.samples["attngen"], row.samples[work.peer]
    ratio, rate = peer.median / ours.median, work.flops / ours.median
    share = rate / row.peak
    bound = row.peak * peer.median / work.flops  # the ratio of a kernel that runs at the peak
    met = ratio >= work.ratio and (work.share is None or share >= work.share)
    verdict = ("yes" if met else "no") if row.conclusive else "busy machine: no conclusion"
    results.rows.append(
        {
            "work": asdict(work),
            "seconds": {name: asdict(sample) for name, sample in row.samples.items()},
            "gflops": rate / 1e9,
            "peak_gflops": row.peak / 1e9,
            "ratio": ratio,
            "ratio_at_peak": bound,
            "share_of_peak": share,
            "rounds": row.rounds,
            "quiet_rounds": row.quiet,
            "target_met": verdict,
        }
    )
    target = f">= {work.ratio} x" + (f", >= {work.share:.0%}" if work.share is not None else "")
    return [
        work.name,
        work.dtype,
        f"{ours.median * 1e3:.2f}",
        f"{work.peer} {peer.median * 1e3:.2f}",
        f"{ratio:.2f} x",
        f"{bound:.2f} x",
        f"{rate / 1e9:.0f} of {row.peak / 1e9:.0f}",
        f"{share:.0%}",
        target,
        verdict,
    ]


FRESH = """
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


def compile_times(rounds: int) -> dict[str, float]:
    """Seconds from a spec to the result of its first call, in fresh processes: nothing cached, then a warm cache.

    "start" is the first kernel of a process with a warm cache, which also imports attngen's own modules; the others are
    of its second kernel.
    """
    times: dict[str, list[float]] = {"cold": [], "warm": [], "start": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for kind in ("cold", "warm"):
                environment = os.environ | {"ATTNGEN_CACHE_DIR": folder}
                done = subprocess.run(
                    [sys.executable, "-c", FRESH], env=environment, capture_output=True, text=True, check=True
                )
                first, second = map(float, done.stdout.split())
                times[kind].append(second)
                if kind == "warm":
                    times["start"].append(first)
    return {kind: sorted(found)[len(found) // 2] for kind, found in times.items()}


def overhead(rounds: int) -> float:
    """Seconds of a call beyond its arithmetic: a kernel of one token, after the first call."""
    q = torch.randn(1, 1, 1, 16)
    kernel = attngen.compile(attngen.Spec(mask=attngen.masks.causal()))
    best = []
    with torch.no_grad():
        for _ in range(rounds):
            start = time.perf_counter()
            for _ in range(2000):
                kernel(q, q, q)
            best.append((time.perf_counter() - start) / 2000)
    return sorted(best)[len(best) // 2]


def main(
    rounds: Annotated[int, typer.Option(help="rounds of each comparison")] = 9,
    quick: Annotated[bool, typer.Option(help="only the rows of N 2048, D 64, and the window")] = False,
    output: Annotated[Path | None, typer.Option(help="write OUTPUT.json and OUTPUT.md")] = None,
) -> None:
    """Measures the CPU table."""
    threads = torch.get_num_threads()
    peak = Peak(threads)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    command = f"python -m benchmarks.cpu --rounds {rounds}" + (" --quick" if quick else "")
    results = Results(isa.identity(), peak.isa, threads, torch.__version__, commit.stdout.strip(), command)
    header = ["work", "dtype", "ms", "peer ms", "ratio", "at peak", "GFLOP/s of peak", "share", "target", "met"]
    lines: list[list[str]] = []
    for work in table():
        if quick and not (work.d == 64 and (work.n == 2048 or work.mask == "window")):
            continue
        with torch.no_grad():
            row = interleave(contenders(work), lambda work=work: peak.measure(work.dtype), rounds)
        lines.append(report(work, row, results))
        console.print("  ".join(lines[-1]))
    times = compile_times(3)
    results.other = {f"compile_{kind}_s": seconds for kind, seconds in times.items()} | {"call_overhead_s": overhead(5)}
    shown = Table(*header)
    for line in lines:
        shown.add_row(*line)
    console.print(shown)
    notes = [
        f"spec to first result, nothing cached: {times['cold']:.2f} s (target <= 2 s)",
        f"spec to first result, warm cache: {times['warm'] * 1e3:.0f} ms (target <= 50 ms)",
        f"first kernel of a process, warm cache, imports included: {times['start'] * 1e3:.0f} ms",
        f"overhead of a call: {results.other['call_overhead_s'] * 1e6:.1f} us (target <= 30 us)",
        f"machine: {results.machine}; {threads} threads; {peak.isa}; torch {results.torch}; commit {results.commit}",
    ]
    console.print("\n".join(notes))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.with_suffix(".json").write_text(json.dumps(asdict(results), indent=2) + "\n", encoding="utf-8")
        rule = ["---"] * len(header)
        markdown = "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *lines))
        text = f"`{command}`\n\n{markdown}\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"
        output.with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
