"""The CPU tables: attngen next to torch SDPA and FlexAttention in one process.

    python -m benchmarks.cpu [--backward] [--rounds 9] [--quick] [--output benchmarks/results/NAME]

Prints medians, ratios, the share of the FMA peak of the same run, compile times and the overhead of a call; writes JSON
and Markdown into the folder of --output. Where the machine is busy a row says so and concludes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks import backward as backward_table
from benchmarks import forward as forward_table
from benchmarks.peak import Peak
from benchmarks.tables import Results, show, write


def main(
    backward: Annotated[bool, typer.Option("--backward", help="forward + backward instead of the forward")] = False,
    rounds: Annotated[int, typer.Option(help="rounds of each comparison")] = 9,
    quick: Annotated[bool, typer.Option("--quick", help="only the rows of N 2048, D 64, and the window")] = False,
    output: Annotated[Path | None, typer.Option(help="write cpu.* or cpu-backward.* into this folder")] = None,
) -> None:
    """Measures a CPU table."""
    peak = Peak(torch.get_num_threads())
    options = (" --backward" if backward else "") + f" --rounds {rounds}" + (" --quick" if quick else "")
    results = Results.of("python -m benchmarks.cpu" + options, peak)
    chosen = backward_table if backward else forward_table
    sections, notes = chosen.run(peak, rounds, quick, results)
    notes.append("FMA peak of the run: " + ", ".join(f"{d} {rate / 1e9:.0f} GFLOP/s" for d, rate in peak.best.items()))
    notes.append(results.place)
    show(sections, notes)
    if output is not None:
        write(output, "cpu-backward" if backward else "cpu", results, sections, notes)


if __name__ == "__main__":
    typer.run(main)
