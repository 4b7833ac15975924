"""The parent of a command: starts the child that measures, and outlives whatever a kernel does to it.

A kernel may hang, kill its process, or leave a device that answers no more. The child notes what it is about to try;
where it ends without a result, the parent keeps the reason as the result and starts another child for the rest.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.gpu.journal import Journal, Mark

ROOT = Path(__file__).parents[2]
REOPEN = 75
"""Exit status of a child whose device has to be opened anew."""
SILENCE = 240.0
"""Seconds that one attempt may take."""
GRACE = 20.0
"""Seconds that a child may take beyond its budget; the budget is what is left less this."""
OVERRUN = "the time of the command was over before it answered"


@dataclass(frozen=True, slots=True)
class Watch:
    """A command to run: its folder, the flags for the child, when it started (monotonic) and the seconds it has."""

    command: str
    out: Path
    flags: list[str]
    started: float
    budget: float

    @property
    def left(self) -> float:
        return self.started + self.budget - time.monotonic()


def watch(given: Watch, silence: float = SILENCE, module: str = "benchmarks.gpu.child") -> None:
    """Runs children until one ends well or the time is over; then the last one writes the report and no more."""
    journal, mark = Journal(given.out / f"{given.command}.jsonl"), Mark(given.out / f"{given.command}.running")
    mark.clear()
    while True:
        budget = max(0.0, given.left - GRACE)
        reason = _child(given, budget, silence, mark, module)
        if reason is None:
            return
        tried = mark.read()
        if tried is not None:
            journal.append(tried | {"result": {"failed": reason}})
            print(f"  {tried['row']} [{tried['config']}]: {reason}", flush=True)
        elif reason not in ("", OVERRUN):
            raise SystemExit(f"{given.command}: {reason}")
        mark.clear()
        # What failed before is measured again once, not by every child.
        given = replace(given, flags=[flag for flag in given.flags if flag != "--retry"])
        if budget == 0.0:
            raise SystemExit(f"{given.command}: the time was over before a report was written; run it again")


def _child(given: Watch, budget: float, silence: float, mark: Mark, module: str) -> str | None:
    """None where the child ended well, "" where it asked for another one, else why it ended."""
    command = [sys.executable, "-m", module, given.command, str(given.out), str(budget), *given.flags]
    child = subprocess.Popen(command, env=_environment("--dry-run" in given.flags), cwd=ROOT)
    began = time.monotonic()
    try:
        while True:
            try:
                status = child.wait(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                age = mark.age()
                if age is not None and age > silence:
                    return f"no answer within {silence:.0f} s"
                if time.monotonic() - began > budget + 2 * GRACE:
                    return OVERRUN
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    if status == 0:
        return None
    if status == REOPEN:
        return ""
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return f"the process ended with {how}"


def _environment(dry: bool) -> dict[str, str]:
    """The child's environment: its modules come from the checkout, and in a dry run there is no device."""
    found = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))}
    found.pop("TRITON_INTERPRET", None)
    if dry:
        # Triton decides for or against its interpreter when it is imported.
        found |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    return found
