"""The families table: what sparsity costs beside dense attention of attngen, in the same run.

A share is the rate of useful FLOPs beside that of dense attention; a ratio, dense time over time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

import attngen
from attngen import mechanisms
from benchmarks.measure import Row, interleave
from benchmarks.peak import Peak
from benchmarks.tables import Results, Section
from benchmarks.work import DTYPES

HEADER = ["work", "dtype", "ms", "dense ms", "ratio", "visible", "share of dense", "target", "met"]
GRID = (64, 64)
LONG = 16384


@dataclass(frozen=True, slots=True)
class Family:
    """One row. `visible`: the share of all pairs that is looked at, a pair of half the width being half a pair.

    `share` and `ratio`: what is asked for.
    """

    name: str
    spec: Callable[[], attngen.Spec]
    visible: float
    share: float | None = None
    ratio: float | None = None
    n: int = 4096
    h: int = 4
    d: int = 64
    backward: bool = False


def window(n: int, size: int) -> float:
    """The visible share of a causal window."""
    return sum(min(i + 1, size) for i in range(n)) / n**2


def sparse_linear(domain: Any, ratio: float, backward: bool) -> Family:
    """SLA with five of a hundred blocks; the linear branch does not count as useful."""
    name = f'SLA, 95 % sparse, "{domain}"' + (", backward" if backward else "")
    return Family(
        name,
        lambda: mechanisms.sparse_linear(0.05, 0.1, linear_domain=domain, projection=False),
        0.05,
        ratio=ratio,
        n=LONG,
        h=2,
        backward=backward,
    )


def table() -> list[Family]:
    """The rows that issue and design ask for."""
    n = GRID[0] * GRID[1]

    def near(kernel: int, stride: int) -> Callable[[], attngen.Spec]:
        return lambda: mechanisms.neighborhood(GRID, (kernel, kernel), (stride, stride))

    return [
        Family("sliding window 512", lambda: mechanisms.sliding_window(512), window(n, 512), share=0.75),
        Family("dual triangle", mechanisms.dual_triangle, (n + 1) / (2 * n), share=0.75, ratio=1.5),
        Family("neighborhood 32 x 32, stride 32 x 32", near(32, 32), 32**2 / n, share=0.85),
        Family("neighborhood 31 x 31", near(31, 1), 31**2 / n, share=0.55),
        sparse_linear("all", 8.0, False),
        sparse_linear("marginal", 7.0, False),
        sparse_linear("all", 5.0, True),
        sparse_linear("marginal", 4.0, True),
    ]


def contenders(family: Family, dtype: str) -> dict[str, Callable[[], Any]]:
    """The family and dense attention on the same tensors; a backward alone, from a forward that was run before."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, family.h, family.n, family.d, dtype=DTYPES[dtype]) for _ in range(3))
    kernels = {"family": attngen.compile(family.spec()), "dense": attngen.compile(attngen.Spec())}
    if not family.backward:
        return {name: partial(kernel, q, k, v) for name, kernel in kernels.items()}
    dout = torch.randn_like(v)
    found: dict[str, Callable[[], Any]] = {}
    for tensor in (q, k, v):
        tensor.requires_grad_()
    for name, kernel in kernels.items():
        out = kernel(q, k, v)
        found[name] = partial(torch.autograd.grad, out, (q, k, v), dout, retain_graph=True)
    return found


def run(peak: Peak, rounds: int, quick: bool, results: Results) -> tuple[list[Section], list[str]]:
    """Measures the table; `quick`: float32 alone."""
    section = Section("Families", HEADER)
    for family in table():
        for dtype in ("fp32",) if quick else ("fp32", "bf16"):
            with torch.set_grad_enabled(family.backward):
                row = interleave(contenders(family, dtype), peak, dtype, rounds)
            section.add(report(family, dtype, row, results))
    return [section], []


def report(family: Family, dtype: str, row: Row, results: Results) -> list[str]:
    """One line; keeps the figures."""
    ours, dense = row.samples["family"].median, row.samples["dense"].median
    ratio = dense / ours
    share = ratio * family.visible
    met = (family.share is None or share >= family.share) and (family.ratio is None or ratio >= family.ratio)
    verdict = row.verdict(met)
    results.rows.append(
        {
            "name": family.name,
            "dtype": dtype,
            "seconds": {name: asdict(sample) for name, sample in row.samples.items()},
            "ratio": ratio,
            "share": share,
            "rounds": row.rounds,
            "quiet_rounds": row.quiet,
            "peak_gflops": row.peak / 1e9,
            "target_met": verdict,
        }
    )
    asked = [f">= {family.share:.0%}"] if family.share is not None else []
    asked += [f">= {family.ratio} x"] if family.ratio is not None else []
    return [
        family.name,
        dtype,
        f"{ours * 1e3:.2f}",
        f"{dense * 1e3:.2f}",
        f"{ratio:.2f} x",
        f"{family.visible:.1%}",
        f"{share:.0%}",
        ", ".join(asked),
        verdict,
    ]
