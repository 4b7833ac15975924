"""Results that are made from tensors where they are, without waiting for their device.

They are kept while the tensors are the same objects at the same version: torch counts what is written to a tensor in
place, unless that goes through `.data`, a pointer or a graph that is replayed, of which users have to tell it
(`torch.autograd.graph.increment_version`). What one stream has made, another one waits for on the device. While a CUDA
graph is captured nothing is kept or taken from before: what makes the result becomes part of the graph, so that every
replay sees what the tensors hold then. On the CPU values are compared, as in `kept`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from weakref import ref

from attngen.codegen.kept import Seen
from attngen.errors import UnsupportedError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Make = Callable[[list["Tensor"], tuple[float, ...]], Sequence["Tensor"]]


class OnDevice:
    """make(tensors, numbers) for the inputs and scalars of a call at these places, on one device."""

    def __init__(self, make: Make, tensors: Sequence[int], numbers: Sequence[int], device: torch.device) -> None:
        self._make = make
        self._tensors, self._numbers = tuple(tensors), tuple(numbers)
        self._device = device
        self._last: tuple[list[_Same], tuple[float, ...], Sequence[Tensor], _Moment | None] | None = None

    def __call__(self, inputs: Sequence[Tensor], scalars: Sequence[float] = ()) -> Sequence[Tensor]:
        tensors = [inputs[place] for place in self._tensors]
        numbers = tuple(scalars[place] for place in self._numbers)
        if tensors and capturing(self._device):
            return self._make(tensors, numbers)
        last = self._last  # replaced in one step: other threads may be at it
        if last is not None and last[1] == numbers and all(s.still(t) for s, t in zip(last[0], tensors, strict=True)):
            if last[3] is not None:
                last[3].reach(last[2])
            return last[2]
        seen = [_Same(t) for t in tensors]
        made = self._make(tensors, numbers)
        self._last = (seen, numbers, made, _Moment(self._device) if self._device.type == "cuda" else None)
        return made


class _Same:
    """A tensor as it was at a call."""

    def __init__(self, tensor: Tensor) -> None:
        self._seen = None if waits(tensor.device) else Seen(tensor)
        self._tensor, self._version = ref(tensor), _version(tensor)

    def still(self, tensor: Tensor) -> bool:
        if self._seen is not None:
            return self._seen.still(tensor)
        return self._version is not None and self._tensor() is tensor and _version(tensor) == self._version


def _version(tensor: Tensor) -> int | None:
    """How often it was written to; None where nobody counts."""
    return None if tensor.is_inference() else tensor._version


class _Moment:
    """What the current stream has been given to do up to now."""

    def __init__(self, device: torch.device) -> None:
        import torch

        self._device = device
        self._stream = torch.cuda.current_stream(device)
        self._event = self._stream.record_event()

    def reach(self, tensors: Sequence[Tensor]) -> None:
        """Has another stream wait until then, and keeps the tensors in memory for it."""
        import torch

        stream = torch.cuda.current_stream(self._device)
        if stream != self._stream:
            stream.wait_event(self._event)
            for tensor in tensors:
                tensor.record_stream(stream)


def waits(device: torch.device) -> bool:
    """Whether the host would have to wait for the device to read one of its tensors."""
    return device.type != "cpu"


def capturing(device: torch.device) -> bool:
    """Whether what is launched on the device becomes part of a CUDA graph instead of being done now."""
    import torch

    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def refuse_capture(device: torch.device, why: str) -> None:
    """Raises `UnsupportedError` while a CUDA graph is captured."""
    if capturing(device):
        raise UnsupportedError(f"this call cannot become part of a CUDA graph: {why}")


WARM_UP = "{} not there yet; call the kernel once with tensors of these shapes, and these numbers, before the capture"
