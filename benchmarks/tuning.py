"""The tuning table: how near the built-in config, and one tuned for half a minute, come to the best of a sweep.

    python -m benchmarks.tuning [--only causal] [--most 200] [--budget 30] [--output benchmarks/results/NAME]

A sweep builds and measures every config of the space (`--most`: the first ones by prediction), which takes half an hour
for a spec on two cores. Then the best of it, the built-in one and the tuned one meet in rounds of their own. Beside it
stands what a look-up in the database takes. It says nothing on a machine that has other work.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer

import attngen
from attngen import masks, mechanisms, scores
from attngen.autotune import database
from attngen.autotune.choose import tuned
from attngen.autotune.measured import Race
from attngen.autotune.paired import Paired
from attngen.autotune.process import Worker
from attngen.autotune.tune import build_stage, silent, static_stage, tune
from attngen.autotune.workload import Workload
from attngen.cli.tuning import workload_of
from attngen.samples import Shape, sample
from benchmarks.peak import Peak
from benchmarks.tables import Results, Section, show, write

HEADER = [
    "work",
    "dtype",
    "configs",
    "built in / best",
    "tuned / best",
    "rank correlation",
    "within 10 %",
    "within 3 %",
]
SWEEP = 4 * 3600.0
"""Seconds that the measurements of a sweep may take."""
DUEL = 120.0
LOOKUPS = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """One spec at one shape."""

    name: str
    spec: Callable[[], attngen.Spec]
    dtype: str = "fp32"
    backward: bool = False
    n: int = 4096
    h: int = 4
    d: int = 64

    def work(self) -> Workload:
        """The call, on random tensors."""
        spec = self.spec()
        call = sample(spec, Shape(1, self.h, self.h, self.n, self.n, self.d, self.d), self.dtype)
        return workload_of(attngen.compile(spec, backend="cpu"), call, "backward" if self.backward else "forward")


def alibi() -> attngen.Spec:
    return attngen.Spec(mask=masks.causal(), score=scores.alibi(torch.linspace(0.1, 1.0, 4)))


TABLE = (
    Row("full", mechanisms.full),
    Row("full", mechanisms.full, "bf16"),
    Row("causal", mechanisms.causal),
    Row("causal", mechanisms.causal, "bf16"),
    Row("causal, D 128", mechanisms.causal, d=128),
    Row("causal, backward", mechanisms.causal, backward=True),
    Row("window 256", lambda: mechanisms.sliding_window(256)),
    Row("window 256, backward", lambda: mechanisms.sliding_window(256), backward=True),
    Row("alibi", alibi),
    Row("neighborhood 13 x 13", lambda: mechanisms.neighborhood((64, 64), 13)),
    Row("dual triangle", mechanisms.dual_triangle),
    Row("SLA, 95 % sparse", lambda: mechanisms.sparse_linear(0.05, projection=False)),
)
"""The twelve specs."""


def main(
    only: Annotated[str, typer.Option(help="rows whose name has this")] = "",
    most: Annotated[int, typer.Option(help="configs of a sweep; 0: all")] = 0,
    budget: Annotated[float, typer.Option(help="seconds of tuning")] = 30.0,
    output: Annotated[Path | None, typer.Option(help="folder for cpu-tuning.*")] = None,
) -> None:
    """Measures the table."""
    # What earlier runs learned must not help.
    with tempfile.TemporaryDirectory() as folder:
        database.FOLDER = str(Path(folder) / "tuning")
        results = Results.of(f"python -m benchmarks.tuning --budget {budget:g}", Peak(torch.get_num_threads()))
        section = Section("Tuning", HEADER)
        for row in TABLE:
            if only in row.name:
                section.add(compare(row, most or 10**6, budget, results))
        notes = [lookups(TABLE[2], results), results.place]
    show([section], notes)
    if output is not None:
        write(output, "cpu-tuning", results, [section], notes)


def compare(row: Row, most: int, budget: float, results: Results) -> list[str]:
    """One line: sweep, tuning, and the duel of what they found."""
    work = row.work()
    chosen = tune(work, budget).chosen
    outcome = static_stage(work)
    configs = [outcome.space.own, *(r.config for r in outcome.ranked if r.config != outcome.space.own)][:most]
    build_stage(outcome, configs, time.monotonic() + 10 * SWEEP)
    ready = [str(config) for config in configs if outcome.built.get(str(config), "") is None]
    with Worker(work) as worker:
        race = Race(worker, outcome.base, time.monotonic() + SWEEP, silent)
        outcome.measures = race.run(ready)
    best = min(outcome.measures.found, key=lambda text: outcome.measures.found[text].ratio)  # type: ignore[union-attr]
    with Worker(work) as worker:
        duel = Race(
            worker, best, time.monotonic() + DUEL, silent, [text for text in (outcome.base, chosen) if text != best]
        )
        found = duel.run(())
    beside = {name: found.found.get(text) for name, text in (("own", outcome.base), ("tuned", chosen))}
    results.rows.append(
        {
            "name": row.name, "dtype": row.dtype, "configs": len(ready), "best": best, "own": outcome.base,
            "chosen": chosen, "rank_correlation": outcome.agreement,
            "beside_best": {name: None if one is None else asdict(one) for name, one in beside.items()},
        }
    )  # fmt: skip
    agreement = "" if outcome.agreement is None else f"{outcome.agreement:.2f}"
    shown = [ratio(one) for one in beside.values()]
    met = [_within(beside["own"], 1.10), _within(beside["tuned"], 1.03)]
    return [row.name, row.dtype, str(len(ready)), *shown, agreement, *met]


def ratio(one: Paired | None) -> str:
    """The time beside the best one's; the best itself has none."""
    return "1" if one is None else f"{one.ratio:.3f} ({one.low:.3f} to {one.high:.3f})"


def _within(one: Paired | None, bound: float) -> str:
    return "yes" if one is None or one.high <= bound else "no" if one.low > bound else "not decided"


def lookups(row: Row, results: Results) -> str:
    """What finding a config takes: of a call that was measured, and of one that nothing is known of."""
    times = {}
    for name, known in (("nothing known", False), ("known", True)):
        work = row.work()
        if known:
            tune(work, 20.0, most=2)
        situation, backend = work.situation, work.target
        taken = []
        for _ in range(LOOKUPS):
            begin = time.perf_counter()
            tuned(work.plan, backend, situation, "forward", "cached")
            taken.append(time.perf_counter() - begin)
        times[name] = 1e6 * median(taken)
    results.other["look-up, us"] = times
    return "a look-up takes " + ", ".join(f"{us:.1f} us ({name})" for name, us in times.items())


if __name__ == "__main__":
    typer.run(main)
