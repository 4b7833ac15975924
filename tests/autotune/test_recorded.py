"""Calls that a program makes are written down, and come back as what they were."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import attngen
from attngen import masks, scores
from attngen.autotune import recorded
from attngen.autotune.workload import Workload
from attngen.errors import InputError
from attngen.runtime.engine import engine

pytestmark = pytest.mark.cxx
IDS = torch.arange(140).reshape(2, 70) // 9


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "calls.jsonl"
    monkeypatch.setenv("ATTNGEN_RECORD", str(path))
    engine.cache_clear()
    yield path
    engine.cache_clear()


def test_calls_are_written_down_once_and_come_back(calls: Path) -> None:
    slopes = torch.linspace(0.1, 1, 4)
    window = 20
    spec = attngen.Spec(
        mask=masks.document(IDS) & masks.sliding_window(window), score=scores.alibi(slopes), name="packed"
    )
    kernel = attngen.compile(spec, layout="bnhd")
    q, k, v = torch.randn(2, 70, 4, 16, requires_grad=True), torch.randn(2, 70, 2, 16), torch.randn(2, 70, 2, 16)
    for _ in range(2):
        kernel(q, k, v).sum().backward()
    forward, backward = recorded.read(calls)
    assert isinstance(forward, Workload)
    assert isinstance(backward, Workload)
    assert (forward.direction, backward.direction, backward.wanted) == ("forward", "backward", frozenset())
    assert forward.spec == kernel.engine().spec
    assert forward.layout == "bnhd"
    assert forward.sizes == (2, 4, 70, 70)
    assert [t.shape for t in forward.operands] == [q.shape, k.shape, v.shape]
    integers = [t for t in forward.inputs if not t.is_floating_point()]
    assert torch.equal(integers[0], IDS)
    assert forward.numbers == (window,)
    one = kernel.engine()
    problem = one.problem(q, k, v, list(forward.inputs), False)
    assert forward.problem == problem
    assert forward.key.sizes.n_q == 128


def test_what_cannot_be_made_again_is_told(calls: Path) -> None:
    kernel = attngen.compile(attngen.Spec(mask=masks.causal()))
    kernel(*torch.randn(3, 1, 2, 33, 16))
    text = calls.read_text()
    newer = text.replace('"format": 1', '"format": 2')
    calls.write_text(f"nonsense\n{text}{newer}")
    first, second, third = recorded.read(calls)
    assert str(first).startswith("line 1 is no call that can be made again")
    assert isinstance(second, Workload)
    assert str(third) == "line 3 is no call that can be made again: it is of format 2, and this version reads 1"
    with pytest.raises(InputError, match="cannot be read"):
        list(recorded.read(calls.with_name("missing")))


def test_a_file_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNGEN_RECORD", str(tmp_path / "no" / "calls.jsonl"))
    kernel = attngen.compile(attngen.Spec(mask=masks.causal(), name="unwritten"))
    q: Any = torch.randn(1, 2, 21, 16)
    with pytest.raises(InputError, match=r"ATTNGEN_RECORD: .*calls.jsonl cannot be written to"):
        kernel(q, q, q)
