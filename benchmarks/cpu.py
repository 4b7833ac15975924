"""The CPU tables: attngen next to torch SDPA and FlexAttention in one process.

    python -m benchmarks.cpu [--backward | --families] [--rounds 9] [--quick] [--output benchmarks/results/NAME]

Prints medians, ratios, the share of the FMA peak of the same run, compile times and the overhead of a call; writes JSON
and Markdown into the folder of --output. Where the machine is busy a row says so and concludes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks import backward as backward_table
from benchmarks import families as families_table
from benchmarks import forward as forward_table
from benchmarks.peak import Peak
from benchmarks.tables import Results, show, write

TABLES: dict[str, Any] = {"cpu": forward_table, "cpu-backward": backward_table, "cpu-families": families_table}


def main(
    backward: Annotated[bool, typer.Option("--backward", help="forward + backward instead of the forward")] = False,
    families: Annotated[bool, typer.Option("--families", help="sparse mechanisms beside dense attention")] = False,
    rounds: Annotated[int, typer.Option(help="rounds of each comparison")] = 9,
    quick: Annotated[bool, typer.Option("--quick", help="only the rows of N 2048, D 64, and the window")] = False,
    output: Annotated[Path | None, typer.Option(help="folder for cpu.*, cpu-backward.* or cpu-families.*")] = None,
) -> None:
    """Measures a CPU table."""
    peak = Peak(torch.get_num_threads())
    name = "cpu-backward" if backward else "cpu-families" if families else "cpu"
    options = name.removeprefix("cpu").replace("-", " --") + f" --rounds {rounds}" + (" --quick" if quick else "")
    results = Results.of("python -m benchmarks.cpu" + options, peak)
    sections, notes = TABLES[name].run(peak, rounds, quick, results)
    notes.append("FMA peak of the run: " + ", ".join(f"{d} {rate / 1e9:.0f} GFLOP/s" for d, rate in peak.best.items()))
    notes.append(results.place)
    show(sections, notes)
    if output is not None:
        write(output, name, results, sections, notes)


if __name__ == "__main__":
    typer.run(main)
