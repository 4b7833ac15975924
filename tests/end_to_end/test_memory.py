"""Extra memory of a call is a few tiles per thread, whatever the length."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.cxx, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")]

MEASURE = """
import sys, torch, attngen
from pathlib import Path

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

n, kind = int(sys.argv[1]), sys.argv[2]
specs = {
    "window": lambda: attngen.Spec(mask=attngen.masks.sliding_window(256)),
    "sigmoid": lambda: attngen.Spec(mask=attngen.masks.sliding_window(256), normalizer="sigmoid"),
    "documents": lambda: attngen.Spec(mask=attngen.masks.document(torch.arange(n)[None] // 512) & attngen.masks.causal()),
}
kernel = attngen.compile(specs[kind](), backend="cpu")
small = torch.randn(1, 1, 64, 32)
if kind != "documents":
    kernel(small, small, small)
q, k, v = (torch.randn(1, 1, n, 32) for _ in range(3))
kernel(q[:, :, :64], k[:, :, :64], v[:, :, :64])
Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
before = peak()
out = kernel(q, k, v)
print(peak() - before - out.numel() * 4 // 1024)
"""


def growth(n: int, kind: str) -> int:
    """KiB of peak memory that a call takes beside its result."""
    done = subprocess.run([sys.executable, "-c", MEASURE, str(n), kind], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("kind", ["window", "sigmoid"])
def test_memory_does_not_grow_with_the_length(kind: str) -> None:
    short, long = growth(2048, kind), growth(65536, kind)
    assert long <= short + 2048  # a dense row of scores alone would be 16 GiB


def test_block_tables_grow_with_tiles_only() -> None:
    short, long = growth(2048, "documents"), growth(65536, "documents")
    assert long <= short + 32768  # less than 512 bytes a token
