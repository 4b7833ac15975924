"""One small kernel under compute-sanitizer, one larger under ncu; where they do not work, they say why."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys

from benchmarks.gpu.session import Result

LONGEST = 150.0
SMALL = "benchmarks.gpu.small"
METRICS = (
    "gpu__time_duration.sum",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "sm__inst_executed_pipe_tensor.sum",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "launch__registers_per_thread",
    "launch__shared_mem_per_block_dynamic",
)


def sanitizer() -> Result:
    """Reads and writes out of bounds, with every tensor in an allocation of its own."""
    done = _run("compute-sanitizer", "--tool", "memcheck", sys.executable, "-m", SMALL)
    if isinstance(done, str):
        return {"refused": done}
    summary = re.search(r"ERROR SUMMARY: (\d+) error", done.stdout)
    if summary is None or "error " not in done.stdout:
        return {"refused": f"compute-sanitizer does not work here: {_last(done)}"}
    return {"errors": int(summary[1]), "said": re.findall(r"^error .*$", done.stdout, re.MULTILINE)}


def profiler() -> Result:
    """Some counters of one launch; clocks stay as they are."""
    options = ["--clock-control", "none", "--kernel-name", "regex:^forward", "--launch-count", "1", "--csv"]
    command = ["ncu", *options, "--metrics", ",".join(METRICS), sys.executable, "-m", SMALL, "4096", "16", "128"]
    done = _run(*command)
    if isinstance(done, str):
        return {"refused": done}
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    found = {row["Metric Name"]: f"{row['Metric Value']} {row['Metric Unit']}".strip() for row in csv.DictReader(lines)}
    return {"counters": found} if found else {"refused": f"ncu does not work here: {_last(done)}"}


def _run(*command: str) -> subprocess.CompletedProcess[str] | str:
    tool = shutil.which(command[0])
    if tool is None:
        return f"{command[0]} is not on the PATH"
    environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    try:
        return subprocess.run(
            [tool, *command[1:]], capture_output=True, text=True, env=environment, timeout=LONGEST, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{command[0]} took more than {LONGEST:.0f} s"


def _last(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    told = [line for line in lines if "error" in line.lower() and "SUMMARY" not in line] or lines
    return told[-1] if told else f"exit status {done.returncode}"
