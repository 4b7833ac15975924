"""Starts the workers of the tests of Triton: its interpreter has to be chosen before Triton is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE = 240
"""Seconds until processes that wait for each other are given up."""


def told(module: str, *calls: tuple[str, ...], **environment: str) -> list[dict[str, dict[str, Any]]]:
    """Runs the module once for each list of arguments, all at the same time. For each, what it told by name."""
    given = {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=os.environ | given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for arguments in calls
    ]
    try:
        said = [worker.communicate(timeout=PATIENCE) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0] * len(workers), "\n".join(problem for _, problem in said)
    return [{line["name"]: line for line in map(json.loads, out.splitlines())} for out, _ in said]
