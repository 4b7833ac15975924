"""The command line of the kit. It imports no torch: the work is done by a child, which it watches over.

    python -m benchmarks.gpu check|tune|table [--budget 500] [--dry-run] [--out DIR] [--only TEXT] [--retry]
        [--sanitize]

check: kernels against the float64 reference on the device, and what the device reaches (products, exponentials,
copies). tune: every config that passes the static stage, timed. table: the H200 table of the design, with the best
configs that tune found. JSON and Markdown go to --out (benchmarks/results/<device>), beside a journal of one line for
each finished measurement; what it holds of this commit and device is not measured again.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.supervise import Watch, watch

COMMANDS = ("check", "tune", "table")
ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    """Runs one command under a budget."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--budget", type=float, default=500.0, help="seconds to stop in (500)")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU, under Triton's interpreter")
    parser.add_argument("--out", type=Path, help="folder for results (benchmarks/results/<device>)")
    parser.add_argument("--only", default="", help="rows whose names hold this text")
    parser.add_argument("--retry", action="store_true", help="measure again what failed")
    parser.add_argument("--sanitize", action="store_true", help="check: one kernel under compute-sanitizer and ncu")
    given = parser.parse_args()
    if given.sanitize and given.command != "check":
        parser.error(f"--sanitize belongs to check, not to {given.command}")
    out: Path = given.out or (ROOT / "build" / "gpu-dry-run" if given.dry_run else RESULTS / folder(device_name()))
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    flags = [f"--{flag}" for flag in ("dry-run", "retry", "sanitize") if getattr(given, flag.replace("-", "_"))]
    flags += [f"--only={given.only}"] if given.only else []
    # Who stops the parent does not leave a child on the device.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    watch(Watch(given.command, out, flags, started, given.budget))


def device_name() -> str:
    """What nvidia-smi calls the first device; nothing where it does not answer."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    asked = [tool, "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return "" if done.returncode else done.stdout.partition("\n")[0]


def folder(name: str) -> str:
    """The name of a device as that of a folder: h200 for "NVIDIA H200", h100 for "NVIDIA H100 80GB HBM3"."""
    words = re.findall(r"[A-Za-z0-9]+", name.removeprefix("NVIDIA "))
    return "-".join(words[:1] if words and re.fullmatch(r"[A-Z]\d+", words[0]) else words).lower() or "gpu"


if __name__ == "__main__":
    main()
