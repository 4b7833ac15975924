"""Which of the two binaries of a kernel a call may run: the one for aligned tensors, or the one for all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ALIGNMENT = 16
"""Bytes of a pointer, and multiples of strides, that vector loads want."""
ALIGNED, GENERIC = "aligned", "generic"
"""What the two are called in a bundle."""


class Alignment:
    """Looks at the arguments of a launch; `names` are all of them, and the others those that count."""

    def __init__(
        self, names: Sequence[str], channels: Sequence[str], strides: Sequence[str], pointers: Sequence[str]
    ) -> None:
        found = list(names)
        self._channels, self._strides, self._pointers = (
            [found.index(name) for name in kind] for kind in (channels, strides, pointers)
        )

    def __call__(self, arguments: Sequence[Any]) -> bool:
        """Whether they are what the binary for aligned tensors takes for granted."""
        return (
            all(arguments[i] == 1 for i in self._channels)
            and all(arguments[i] % ALIGNMENT == 0 for i in self._strides)
            and all(arguments[i].data_ptr() % ALIGNMENT == 0 for i in self._pointers)
        )
