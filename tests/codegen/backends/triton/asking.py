"""Workers: programs that answer every line with a line of JSON, in a process where Triton is another one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[4]
Ask = Callable[[str], dict[str, Any]]


@contextmanager
def worker(module: str, variables: Mapping[str, str], *options: str) -> Iterator[Ask]:
    """ask(line) of a module that runs as a program, with these environment variables added; it ends with the block."""
    command = [sys.executable, "-m", module, *options]
    with subprocess.Popen(
        command, env={**os.environ, **variables}, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        to, back = process.stdin, process.stdout
        assert to is not None
        assert back is not None

        def ask(line: str) -> dict[str, Any]:
            print(line, file=to, flush=True)
            found: dict[str, Any] = json.loads(back.readline())
            return found

        yield ask
        to.close()
