"""What torch is asked to do: names of operations that are work for a device, in their order."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

FREE = (
    "view",
    "reshape",
    "expand",
    "unsqueeze",
    "select.int",
    "slice",
    "detach",
    "alias",
    "permute",
    "empty",
    "lift_fresh",
)
"""Operations that give another view of a tensor, or memory."""


class Launches(TorchDispatchMode):
    """Notes them while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), options: Any = None) -> Any:
        name = str(function)
        if not name.removeprefix("aten.").lstrip("_").startswith(FREE):
            self.names.append(name)
        return function(*args, **(options or {}))
