"""The forward table: full and causal attention beside torch SDPA, a window beside FlexAttention."""

from __future__ import annotations

import torch

from benchmarks import calls
from benchmarks.measure import interleave, remark
from benchmarks.peak import Peak
from benchmarks.tables import Results, Section
from benchmarks.work import HEADER, Work, contenders, report


def table(quick: bool) -> list[Work]:
    """The rows; `quick`: only those of N 2048, D 64, and the window."""
    rows = []
    for mask, share32, share16 in (("full", 0.80, 0.70), ("causal", 0.72, 0.62)):
        for d, n in ((64, 2048), (64, 4096), (128, 2048), (128, 4096)):
            rows.append(Work(f"{mask} D {d} N {n}", "fp32", 1, 8, n, d, mask, "sdpa", 2.2, share32))
            rows.append(Work(f"{mask} D {d} N {n}", "bf16", 1, 8, n, d, mask, "sdpa", 4.0, share16))
    for d, ratio32, ratio16 in ((64, 2.5, 8.0), (128, 1.8, 4.0)):
        rows.append(Work(f"window 256 of 4096 D {d}", "fp32", 1, 8, 4096, d, "window", "flex", ratio32))
        rows.append(Work(f"window 256 of 4096 D {d}", "bf16", 1, 8, 4096, d, "window", "flex", ratio16))
    return [row for row in rows if not quick or (row.d == 64 and (row.n == 2048 or row.mask == "window"))]


def run(peak: Peak, rounds: int, quick: bool, results: Results) -> tuple[list[Section], list[str]]:
    """Measures the table, compile times and the overhead of a call; gives what to show."""
    section = Section("Forward", HEADER)
    with torch.no_grad():
        for work in table(quick):
            row = interleave(contenders(work), peak, work.dtype, rounds)
            section.add(report(work, row, results))
    times = calls.compile_times(calls.FORWARD, peak)
    overhead = calls.overhead(peak, rounds)
    call = overhead.samples["attngen"].median / calls.CALLS
    results.other = times.figures("compile") | {"call_overhead_s": call}
    note = f"overhead of a call: {call * 1e6:.1f} us (target <= 30 us){remark(overhead.conclusive)}"
    return [section], [*times.notes("result"), note]
