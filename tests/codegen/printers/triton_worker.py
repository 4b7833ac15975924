"""Runs printed kernels under Triton's interpreter, which has to be chosen before Triton is imported: its own process.

Each line of standard input is the path of a job, answered by one line: "done", or the last line of an error. Every
kernel of the job's source writes one tile.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
import warnings
from pathlib import Path

import torch


def run(path: Path) -> None:
    job = torch.load(path)
    given = importlib.util.spec_from_file_location(path.stem, path.with_suffix(".py"))
    assert given is not None
    assert given.loader is not None
    module = importlib.util.module_from_spec(given)
    given.loader.exec_module(module)
    outputs = []
    for name, dtype in job["kernels"]:
        out = torch.zeros(job["shape"], dtype=dtype)
        getattr(module, name)[(1,)](*job["arguments"], out, *job["blocks"])
        outputs.append(out)
    torch.save(outputs, path.with_suffix(".out"))


def main() -> None:
    warnings.simplefilter("ignore")  # numpy's, about infinities and wrapped integers
    for line in sys.stdin:
        try:
            run(Path(line.strip()))
        except Exception:
            print(traceback.format_exc().replace("\n", " | "), flush=True)
        else:
            print("done", flush=True)


main()
