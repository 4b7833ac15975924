"""Two binaries for each kernel, whatever the shapes are."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import attngen
from attngen import masks
from attngen.codegen.backends.triton.abi import Parameters, parameters
from attngen.codegen.backends.triton.config import TritonConfig
from attngen.codegen.backends.triton.emit import emit
from attngen.codegen.backends.triton.variants import Variants
from attngen.codegen.plan import Plan
from tests.codegen.plans import plan_of

pytest.importorskip("triton")
CONFIG = TritonConfig(64, 32, 4, 2, "tf32x3")


class Counting(Variants):
    """Notes what would be compiled and launched, instead of doing it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.compiled: list[bool] = []

    def _compile(self, aligned: bool) -> Any:
        self.compiled.append(aligned)
        return aligned

    def binary(self, arguments: list[Any]) -> Any:
        return self._variant(arguments, self._aligned(arguments))


def made(tmp_path: Path, plan: Plan) -> tuple[Counting, Parameters]:
    path = tmp_path / "forward.py"
    path.write_text(emit(plan, CONFIG).text)
    return Counting(path, "forward", parameters(plan), CONFIG), parameters(plan)


def arguments(given: Parameters, *, rows: int, d: int, offset: int = 0, channel: int = 1) -> list[Any]:
    """A call: the tokens of every tensor lie `d` apart, and its first element `offset` elements in."""
    memory = torch.zeros(4096)
    values: dict[str, Any] = dict.fromkeys(given.signature, rows)
    values |= {name: memory[offset:] for name, kind in given.signature.items() if kind.startswith("*")}
    values |= {name: rows * d if name.endswith(("0", "1")) else d for name in given.strides}
    values |= dict.fromkeys(given.channels, channel)
    return list(values.values())


def test_forty_shapes_and_two_binaries(tmp_path: Path) -> None:
    variants, given = made(tmp_path, plan_of(attngen.Spec(mask=masks.sliding_window(9))))
    for rows in (1, 2, 16, 17, 64, 100, 128, 1000, 4096, 5000):
        for d in (16, 24, 64, 65):
            variants.binary(arguments(given, rows=rows, d=d))
    assert sorted(variants.compiled) == [False, True]


@pytest.mark.parametrize(
    ("change", "aligned"),
    [({}, True), ({"d": 24}, False), ({"offset": 1}, False), ({"channel": 2}, False), ({"rows": 3}, True)],
    ids=str,
)
def test_what_is_aligned(tmp_path: Path, change: dict[str, int], aligned: bool) -> None:
    variants, given = made(tmp_path, plan_of(attngen.Spec()))
    assert variants.binary(arguments(given, **{"rows": 5, "d": 64, **change})) is aligned


def test_captured_tensors_may_lie_anywhere(tmp_path: Path) -> None:
    """Their elements are read one by one: a table with odd strides does not cost the tiles their wide loads."""
    spec = attngen.Spec(score=attngen.scores.relative_bias(torch.ones(4, 9)))
    variants, given = made(tmp_path, plan_of(spec))
    values = dict(zip(given.signature, arguments(given, rows=16, d=64), strict=True))
    table = [name for name in given.signature if name.endswith(("stride0", "stride1")) and name not in given.strides]
    assert table
    assert variants.binary(list((values | dict.fromkeys(table, 7)).values())) is True


def test_descriptors_find_memory_in_every_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton forgets the allocator in a new thread, such as autograd's."""
    from triton.runtime import _allocation

    class Launched:
        def __getitem__(self, grid: Any) -> Any:
            return lambda *arguments: taken.append(_allocation._allocator.get()(256, 128, None))

    taken: list[torch.Tensor] = []
    variants, given = made(tmp_path, plan_of(attngen.Spec()))
    monkeypatch.setattr(variants, "_config", replace(CONFIG, loads="descriptor"))
    monkeypatch.setattr(variants, "_variant", lambda arguments, aligned: Launched())
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    for _ in range(2):
        thread = threading.Thread(target=variants.run, args=((1, 1, 1), arguments(given, rows=5, d=64)))
        thread.start()
        thread.join()
    assert [t.numel() for t in taken] == [256, 256]
