"""The child of a command: measures until its time is over and writes the report; `supervise` starts it.

python -m benchmarks.gpu.child COMMAND OUT BUDGET [--dry-run] [--retry] [--sanitize] [--only=TEXT]
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from benchmarks.gpu.place import Place
from benchmarks.gpu.session import Options, Session


def main(command: str, out: str, budget: str, *flags: str) -> None:
    """One command, from the options to its report."""
    only = next((flag.removeprefix("--only=") for flag in flags if flag.startswith("--only=")), "")
    named = ("--dry-run" in flags, "--retry" in flags, "--sanitize" in flags)
    options = Options(command, Path(out), float(budget), *named, only)
    session = Session(options, *_device(options.dry))
    module = import_module(f"benchmarks.gpu.{command}")
    print(f"{command}: {session.place}", flush=True)
    left = session.measure(module.units(session))
    module.report(session, left)
    print(f"{command}: " + (f"left for the next run: {', '.join(left)}" if left else "all is measured"), flush=True)


def _device(dry: bool) -> tuple[Place, str]:
    import torch

    torch.manual_seed(0)
    if dry:
        return Place.here("Triton's interpreter on the CPU (dry run)"), "cpu"
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device; --dry-run runs the kit without one")
    return Place.here(torch.cuda.get_device_name()), "cuda"


if __name__ == "__main__":
    main(*sys.argv[1:])
