"""Two tuners that write at once, killed at random: what a writer was told is kept, is there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import attngen.errors
from attngen.autotune import files
from tests.autotune.samples import DEVICE

REPOSITORY = Path(attngen.errors.__file__).parents[1]

WRITER = """
import sys
from pathlib import Path
from attngen.autotune import files
from tests.autotune.samples import DEVICE, sample
folder, who = Path(sys.argv[1]), sys.argv[2]
for turn in range(1, 10_000):
    # Some come alone, some as a session of many: more than a page of a file.
    names = [f"{who}.{turn}.{i}" for i in range(1 if turn % 2 else 40)]
    files.append(folder, DEVICE, [sample(0.9, name=name) for name in names])
    print(*names, flush=True)
"""
PRUNER = """
import sys
from pathlib import Path
from attngen.autotune import files
folder = Path(sys.argv[1])
print("started", flush=True)
while True:
    for table in files.tables(folder):
        files.rewrite(folder, table.path, lambda sample: True)
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=env, stdout=subprocess.PIPE, text=True)


def killed_at_random(folder: Path, seed: int) -> list[str]:
    """Names that two writers were told are kept, while a third process rewrites the file."""
    chance = random.Random(seed)
    processes = [start(WRITER, str(folder), f"{seed}{who}") for who in "ab"] + [start(PRUNER, str(folder))]
    first = []
    for process in processes:
        assert process.stdout is not None
        first.append(process.stdout.readline())
    time.sleep(chance.uniform(0, 0.05))
    chance.shuffle(processes)
    for process in processes:
        process.send_signal(signal.SIGKILL)
        time.sleep(chance.uniform(0, 0.02))
    rest = [process.communicate()[0] for process in processes]
    # A last line without its end was being written: nobody was told anything.
    whole = [line for text in (*first, *rest) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [name for line in whole for name in line.split() if name != "started"]


def rounds(folder: Path, count: int) -> None:
    told: list[str] = []
    for seed in range(count):
        told += killed_at_random(folder, seed)
    path = files.append(folder, DEVICE, [])
    there = [sample.name for sample in files.load(path).samples]
    assert len(told) > 2 * count
    assert set(told) - set(there) == set()
    assert len(set(there)) == len(there)
    assert not [table for table in files.tables(folder) if table.device is None]


def test_writers_that_are_killed_lose_nothing_that_was_kept(tmp_path: Path) -> None:
    rounds(tmp_path, 2)


@pytest.mark.slow
def test_writers_that_are_killed_lose_nothing_in_200_rounds(tmp_path: Path) -> None:
    rounds(tmp_path, 200)
