"""Checks of what tensors of a call hold, on their device and on the host.

The first call is checked on the host, which waits for the device and raises what it finds. What comes later the device
checks itself, as part of its work and of a CUDA graph: where a check fails, it stops (`torch._assert_async`) before
anybody can read a result. The device knows bounds of what tensors hold and no more; where those did not do on the host
either, or a check has no counterpart on the device, the host goes on looking at tensors that it has not seen, and says
so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attngen.codegen.analysis.deferred import NeedsElements
from attngen.codegen.calls.program import Program
from attngen.codegen.on_device import WARM_UP, capturing, refuse_capture, waits

if TYPE_CHECKING:
    import torch
    from torch import Tensor

log = logging.getLogger("attngen")
Flags = list[tuple[Any, str]]
"""What must be false everywhere, each with what is wrong where it is true."""


@dataclass(frozen=True, slots=True)
class Asserts:
    """Flags of tensors by name, asserted on their device."""

    program: Program
    messages: tuple[str, ...]

    def __call__(self, tensors: dict[str, Tensor]) -> None:
        import torch

        for flag, message in zip(self.program(tensors), self.messages, strict=True):
            torch._assert_async(~flag.any(), message)


class Guard:
    """guard(tensors, numbers) raises, or has the device stop, where the tensors `names` hold what they must not.

    `host` raises for tensors on the CPU; True: bounds of what they hold were enough to find that all is well. `flags`:
    the same by bounds, of tensors whose shapes are known.
    """

    def __init__(
        self,
        names: Sequence[str],
        host: Callable[[list[Tensor], tuple[float, ...]], bool],
        flags: Callable[[list[Tensor], tuple[float, ...]], Flags],
        device: torch.device,
    ) -> None:
        import torch

        self._names, self._host, self._flags, self._device = tuple(names), host, flags, device
        self._reason = "" if torch.version.hip is None else "on this device, asserts do nothing"
        self._seen = False
        self._asserts: dict[tuple[float, ...], Asserts] = {}

    def __call__(self, tensors: list[Tensor], numbers: tuple[float, ...]) -> tuple[()]:
        if waits(self._device) and not self._reason:
            try:
                asserts = self._of(tensors, numbers)
            except NeedsElements as reason:
                self._keep_asking(str(reason))
            else:
                if not asserts.messages:
                    return ()
                if self._seen or capturing(self._device):
                    asserts(dict(zip(self._names, tensors, strict=True)))
                    return ()
        if self._reason:
            refuse_capture(self._device, f"the host has to look at what its tensors hold ({self._reason})")
        by_bounds = self._host([t.detach().cpu() for t in tensors], numbers)
        self._seen = True
        if waits(self._device) and not by_bounds and not self._reason:
            self._keep_asking("an index stays inside its tensor only because of what others hold at the same place")
        return ()

    def _of(self, tensors: list[Tensor], numbers: tuple[float, ...]) -> Asserts:
        found = self._asserts.get(numbers)
        if found is None:
            flags = self._flags(tensors, numbers)
            if flags:
                refuse_capture(self._device, WARM_UP.format("what its tensors are checked with is"))
            program = Program([flag for flag, _ in flags], self._device)
            found = Asserts(program, tuple(message for _, message in flags))
            self._asserts = {numbers: found}
        return found

    def _keep_asking(self, reason: str) -> None:
        self._reason = reason
        log.warning("the host looks at what new tensors hold, and waits for the device: %s", reason)
