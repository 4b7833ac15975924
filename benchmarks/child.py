"""Python in a process of its own, for what a used one cannot show: first calls, and memory."""

from __future__ import annotations

import os
import subprocess
import sys


def output_of(*arguments: str, **environment: str) -> str:
    """What `python ARGUMENTS` prints, with these variables set beside the others; stops where it fails."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout
