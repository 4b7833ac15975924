"""What is made on a device is kept by version, made anew in graphs, and waited for by other streams."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from attngen.codegen import on_device
from attngen.codegen.on_device import OnDevice

CPU = torch.device("cpu")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the CPU be taken for a device that the host would have to wait for."""
    monkeypatch.setattr(on_device, "waits", lambda device: True)


def sums(places: tuple[int, ...] = (0,), numbers: tuple[int, ...] = ()) -> tuple[OnDevice, list[float]]:
    calls: list[float] = []

    def make(tensors: list[Tensor], numbers: tuple[float, ...]) -> list[Tensor]:
        calls.append(sum(float(t.sum()) for t in tensors) + sum(numbers))
        return [torch.tensor(calls[-1])]

    return OnDevice(make, places, numbers, CPU), calls


@pytest.mark.usefixtures("device")
def test_the_same_tensor_at_the_same_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "equal", None)
    made, calls = sums(numbers=(1,))
    t = torch.arange(3)
    first = made([t], [0, 2])
    assert made([t], [5, 2]) is first
    assert made([t], [5, 3])[0] == 6
    t[0] = 4
    assert made([t], [5, 3])[0] == 10
    assert made([t.clone()], [5, 3])[0] == 10
    assert calls == [5, 6, 10, 10]


@pytest.mark.usefixtures("device")
def test_a_write_that_torch_was_told_of() -> None:
    made, calls = sums()
    t = torch.arange(3)
    made([t])
    t.data[0] = 4
    torch.autograd.graph.increment_version(t)
    assert made([t])[0] == 7
    assert calls == [3, 7]


@pytest.mark.usefixtures("device")
def test_nobody_counts_what_is_written_to_tensors_of_inference() -> None:
    made, calls = sums()
    with torch.inference_mode():
        t = torch.arange(3)
        assert [float(made([t])[0]) for _ in range(2)] == [3, 3]
    assert calls == [3, 3]


def test_on_the_cpu_values_decide() -> None:
    made, calls = sums()
    t = torch.arange(3)
    first = made([t])
    assert made([t.clone()]) is first
    t.data[0] = 4
    assert made([t])[0] == 7
    assert calls == [3, 7]


@pytest.mark.usefixtures("device")
def test_a_graph_makes_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does it take what was made before, nor does anybody take what it made, which is there after a replay."""
    made, calls = sums()
    constant, of_numbers = sums(places=(), numbers=(0,))
    t = torch.arange(3)
    before = made([t]), constant([], [7])
    monkeypatch.setattr(on_device, "capturing", lambda device: True)
    assert made([t]) is not before[0]
    assert constant([], [7]) is before[1]
    monkeypatch.undo()
    assert made([t]) is before[0]
    assert (calls, of_numbers) == ([3, 3], [7])


class Stream:
    """A stream of a pretended device, which notes what it waits for."""

    def __init__(self) -> None:
        self.waited: list[Any] = []

    def record_event(self) -> str:
        return "made"

    def wait_event(self, event: Any) -> None:
        self.waited.append(event)


def test_another_stream_waits_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Stream(), Stream()
    current = [one]
    held: list[Any] = []
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current[0])
    moment = on_device._Moment(CPU)

    class Held:
        def record_stream(self, stream: Any) -> None:
            held.append(stream)

    moment.reach([Held()])  # type: ignore[list-item]
    assert (one.waited, held) == ([], [])
    current[0] = two
    moment.reach([Held(), Held()])  # type: ignore[list-item]
    assert (two.waited, held) == (["made"], [two, two])
