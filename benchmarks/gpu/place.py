"""Where and with what figures were found: the device, its clocks, the versions and the commit."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ":!benchmarks/results"
CLOCKS = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "clocks_throttle_reasons.active")


@dataclass(frozen=True, slots=True)
class Place:
    """What every line and every file of results says of its origin."""

    commit: str
    device: str
    torch: str
    triton: str
    driver: str

    @classmethod
    def here(cls, device: str) -> Place:
        """This process; `device` is what torch calls the device."""
        return cls(commit(), device, _version("torch"), _version("triton"), _driver())

    def __str__(self) -> str:
        driver = f"; driver {self.driver}" if self.driver else ""
        return f"{self.device}; torch {self.torch}; triton {self.triton}{driver}; commit {self.commit}"


def commit() -> str:
    """The short hash, with -dirty and what the changes are known by, or ATTNGEN_COMMIT where that is set."""
    given = os.environ.get("ATTNGEN_COMMIT")
    if given:
        return given
    head = _git("rev-parse", "--short=10", "HEAD")
    if head is None:
        return "unknown"
    # Results that an earlier command wrote are no change of what is measured.
    changed = hashlib.sha256((_git("diff", "HEAD", "--", ".", RESULTS) or "").encode())
    new = (_git("ls-files", "--others", "--exclude-standard", "--", ".", RESULTS) or "").splitlines()
    for name in sorted(new):
        path = ROOT / name
        if path.is_file():
            changed.update(name.encode() + path.read_bytes())
    clean = hashlib.sha256(b"").hexdigest()
    return head if changed.hexdigest() == clean else f"{head}-dirty-{changed.hexdigest()[:6]}"


def clocks() -> dict[str, str]:
    """Clocks in MHz, power and temperature as nvidia-smi says them at this moment, or why it does not."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {"clocks": "not measured: nvidia-smi is not on the PATH"}
    said = _run(tool, f"--query-gpu={','.join(CLOCKS)}", "--format=csv,noheader")
    if said is None:
        return {"clocks": "not measured: nvidia-smi does not answer"}
    values = (said.splitlines() or [""])[0].split(",")
    return {name: value.strip() for name, value in zip(CLOCKS, values, strict=False)}


def _git(*arguments: str) -> str | None:
    return _run("git", *arguments)


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _driver() -> str:
    tool = shutil.which("nvidia-smi")
    said = tool and _run(tool, "--query-gpu=driver_version", "--format=csv,noheader")
    return said.splitlines()[0].strip() if said else ""
