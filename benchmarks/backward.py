"""The backward table: forward + backward beside torch SDPA, what variants cost, memory, compile times and overhead."""

from __future__ import annotations

from benchmarks import calls, memory, variants
from benchmarks.measure import interleave, remark
from benchmarks.peak import Peak
from benchmarks.tables import Results, Section
from benchmarks.work import HEADER, Work, contenders, report

RATIO32, RATIO16 = 1.8, 2.2


def table(quick: bool) -> list[Work]:
    """The rows; `quick`: only those of N 2048 and D 64. The last have fewer heads than threads.

    N 4096 is fp32 alone: SDPA's backward in bf16 would take longer than all else together.
    """
    rows = []
    for mask in ("full", "causal"):
        for d in (64, 128):
            rows.append(_work(mask, "fp32", 8, 2048, d, RATIO32))
            rows.append(_work(mask, "bf16", 8, 2048, d, RATIO16))
        rows.append(_work(mask, "fp32", 8, 4096, 64, RATIO32))
    rows.append(_work("full", "fp32", 1, 2048, 64, RATIO32))
    rows.append(_work("full", "bf16", 1, 2048, 64, RATIO16))
    return [row for row in rows if not quick or (row.d, row.n) == (64, 2048)]


def _work(mask: str, dtype: str, h: int, n: int, d: int, ratio: float) -> Work:
    name = f"{mask} D {d} N {n}" + (f", {h} head" if h == 1 else "")
    return Work(name, dtype, 1, h, n, d, mask, "sdpa", ratio, backward=True)


def run(peak: Peak, rounds: int, quick: bool, results: Results) -> tuple[list[Section], list[str]]:
    """Measures everything; gives what to show."""
    against = Section("Forward + backward", HEADER)
    for work in table(quick):
        row = interleave(contenders(work), peak, work.dtype, rounds)
        against.add(report(work, row, results))
    sections = [against]
    sections += [variants.measure(chosen, peak, rounds, results) for chosen in variants.SETS]
    sections.append(memory.measure((2048, 4096, 8192) if quick else (2048, 4096, 8192, 16384), results))
    times, overhead = calls.compile_times(calls.GRADIENT, peak), calls.overhead_with_gradients(peak, rounds)
    both, forward, least = (overhead.samples[name].median / calls.CALLS for name in ("both", "forward", "torch"))
    results.other |= times.figures("compile_gradient")
    results.other |= {"gradient_overhead_s": both, "recorded_overhead_s": forward, "torch_overhead_s": least}
    note = (
        f"overhead of a call with its gradients: {both * 1e6:.0f} us, of which the forward {forward * 1e6:.0f} us; "
        f"torch's own for an operation that does nothing: {least * 1e6:.0f} us; beyond it "
        f"{(both - least) * 1e6:.0f} us (target <= 60 us){remark(overhead.conclusive)}"
    )
    return sections, [*times.notes("gradient"), note]
