"""Extra memory of a call is a few tiles per thread, whatever the length."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import pytest
import torch

import attngen
from tests.end_to_end.oracle import operands
from tests.kinds import some

pytestmark = [pytest.mark.cxx, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")]

MEASURE = """
import sys, torch, attngen
from pathlib import Path

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

kind, lengths = sys.argv[1], [int(n) for n in sys.argv[2:]]
ids = torch.arange(max(lengths))[None] // 512
specs = {
    "window": lambda: attngen.Spec(mask=attngen.masks.sliding_window(256)),
    "sigmoid": lambda: attngen.Spec(mask=attngen.masks.sliding_window(256), normalizer="sigmoid"),
    "entmax": lambda: attngen.Spec(
        mask=attngen.masks.sliding_window(256), normalizer=attngen.normalizers.entmax(1.5)
    ),
    "documents": lambda: attngen.Spec(mask=attngen.masks.document(ids) & attngen.masks.causal()),
}
kernel = attngen.compile(specs[kind](), backend="cpu")
small = torch.randn(1, 1, 64, 32)
kernel(small, small, small)
for n in lengths:  # the longest last: what a call leaves to the allocator serves the next
    q, k, v = (torch.randn(1, 1, n, 32) for _ in range(3))
    kernel(q[:, :, :64], k[:, :, :64], v[:, :, :64])
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before = peak()
    out = kernel(q, k, v)
    print(peak() - before - out.numel() * 4 // 1024)
"""


def growth(kind: str, *lengths: int) -> list[int]:
    """KiB of peak memory that a call of each length takes beside its result."""
    done = subprocess.run([sys.executable, "-c", MEASURE, kind, *map(str, lengths)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


@pytest.mark.parametrize("kind", ["window", pytest.param("entmax", marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_length(kind: str) -> None:
    short, long = growth(kind, 2048, 32768)
    assert long <= short + 2048  # a dense row of scores alone would be 16 GiB


def test_block_tables_grow_with_tiles_only() -> None:
    short, long = growth("documents", 2048, 32768)
    assert long <= short + 32768  # less than 512 bytes a token


def specs() -> dict[str, attngen.Spec]:
    slopes, ids, table, index = torch.rand(4), torch.arange(70) // 7, torch.rand(139), torch.arange(70)
    return {
        "no inputs": attngen.Spec(mask=attngen.masks.causal()),
        "slopes": attngen.Spec(score=lambda score, h: score * slopes[h]),
        "documents": attngen.Spec(mask=attngen.masks.document(ids)),
        "relative": attngen.Spec(score=lambda score, q, kv: score + table[q - kv + 69]),
        "indirect": attngen.Spec(score=lambda score, kv: score + table[index[kv]]),
        "given": attngen.Spec(mask="kv < lengths[b]", score="score * gate[b, h, q]"),
    }


@pytest.mark.parametrize("name", some(specs(), "documents", "relative"))
def test_tensors_of_a_call_are_released(name: str) -> None:
    kernel = attngen.compile(specs()[name], backend="cpu")
    given = list(operands())
    inputs = {"lengths": torch.tensor([3, 70]), "gate": torch.rand(2, 4, 70)} if name == "given" else {}
    alive = [weakref.ref(t) for t in (*given, *inputs.values())]
    kernel(*given, return_lse=True, **inputs)
    given.clear()
    inputs.clear()
    gc.collect()
    assert not any(t() is not None for t in alive)


def test_what_is_kept_for_shapes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attngen.runtime.engine.MOST_LAUNCHES", 100)
    kernel = attngen.compile(attngen.Spec(mask=attngen.masks.causal(), name="many_lengths"), backend="cpu")
    gc.collect()
    before = len(gc.get_objects())
    for n in range(1, 1000):
        small = torch.empty(1, 1, n, 1)
        kernel(small[:, :, :1], small, small)
    gc.collect()
    assert len(gc.get_objects()) - before < 20 * 300
