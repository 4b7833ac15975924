"""A child that comes to harm: what the parent of the GPU kit has to live with. It imports nothing heavy.

Started as a child of the kit is. It tries the rows of TROUBLES that the journal does not hold, and each does what its
name says.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from benchmarks.gpu.journal import Journal, Mark
from benchmarks.gpu.supervise import REOPEN

TROUBLES = ("dies", "hangs", "loses the device", "works")


def main(command: str, out: str, *rest: str) -> None:
    """Every row once, the others as results."""
    journal, mark = Journal(Path(out) / f"{command}.jsonl"), Mark(Path(out) / f"{command}.running")
    for row in TROUBLES:
        if any(record["row"] == row for record in journal.records):
            continue
        record = {"place": {}, "command": command, "row": row, "config": "c"}
        mark.set(record)
        if row == "dies":
            os.abort()
        if row == "hangs":
            time.sleep(60)
        journal.append(record | {"result": {"failed": "no device"} if row == "loses the device" else {"ms": 1.0}})
        mark.clear()
        if row == "loses the device":
            sys.exit(REOPEN)


if __name__ == "__main__":
    main(*sys.argv[1:])
