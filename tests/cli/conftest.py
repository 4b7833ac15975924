"""Runs commands: in this process, or as a user does from another folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from attngen.cli import app

ROOT = Path(__file__).parents[2]

USER_FILE = """
import torch
import attngen
from attngen import masks, scores

slopes = torch.tensor([0.5, 0.25])
ids = torch.tensor([0] * 10 + [1] * 20 + [2] * 3)

alibi = attngen.Spec(mask=masks.causal(), score=scores.alibi(slopes))
packed = attngen.Spec(mask=masks.document(ids))
kernel = attngen.compile(alibi, layout="bnhd")
text = attngen.Spec(mask="kv < lengths[b]")
free = attngen.Spec(score="score + table[h, kv % 3]")
number = 3


def every_third(b, h, q, kv):
    return (q - kv) % 3 == 0


def near(q, kv):
    return abs(q[0] - kv[0]) + abs(q[1] - kv[1]) <= 1


def make():
    return attngen.mechanisms.causal()


@attngen.compile(mask=masks.causal())
def capped(score):
    return 30 * torch.tanh(score / 30)
"""

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """run("show", "causal") in this process."""

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    return invoke


@pytest.fixture
def user_file(tmp_path: Path) -> str:
    """A file of a user, outside of the package."""
    path = tmp_path / "mine.py"
    path.write_text(USER_FILE)
    return str(path)


def elsewhere(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m attngen` from another folder."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **environment}
    command = [sys.executable, "-m", "attngen", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
