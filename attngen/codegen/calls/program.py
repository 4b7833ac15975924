"""What the analysis noted down (analysis/deferred.py), done with torch on the device of the tensors.

A program never waits for its device: shapes and constants are known when it is made, and the constants are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from attngen.codegen.analysis.deferred import Deferred, NeedsElements

if TYPE_CHECKING:
    from torch import Tensor

TORCH = {
    "absolute": "abs",
    "equal": "eq",
    "invert": "bitwise_not",
    "left_shift": "bitwise_left_shift",
    "power": "pow",
    "right_shift": "bitwise_right_shift",
    "rint": "round",
}
"""torch's names of operations, where they are not numpy's."""


class Program:
    """program(tensors by name) -> the values of `results`, each as a tensor."""

    def __init__(self, results: Sequence[Any], device: Any) -> None:
        self._device = device
        self._constants: dict[Any, Tensor] = {}
        self._given: list[tuple[str, int]] = []
        self._steps: list[tuple[Callable[..., Tensor], tuple[int, ...], int]] = []
        self._start: list[Tensor | None] = []
        self._at: dict[int, int] = {}
        self._results = [self._place(each) for each in results]
        self._dropped = self._last_uses()
        self._at.clear()

    def __call__(self, tensors: Mapping[str, Tensor]) -> list[Tensor]:
        values: list[Any] = list(self._start)
        for name, at in self._given:
            values[at] = tensors[name]
        for (function, args, at), dropped in zip(self._steps, self._dropped, strict=True):
            values[at] = function(*[values[a] for a in args])
            for gone in dropped:
                values[gone] = None
        return [values[at] for at in self._results]

    def _place(self, root: Any) -> int:
        """Where the value will be. Operations come after what they need."""
        stack = [root]
        while stack:
            node = stack[-1]
            missing = [a for a in node.args if id(a) not in self._at] if isinstance(node, Deferred) else []
            if id(node) in self._at:
                stack.pop()
            elif missing:
                stack += missing
            else:
                stack.pop()
                self._at[id(node)] = self._add(node)
        return self._at[id(root)]

    def _add(self, node: Any) -> int:
        at = len(self._start)
        if not isinstance(node, Deferred):
            self._start.append(self._constant(np.asarray(node)))
            return at
        self._start.append(None)
        match node.function:
            case ("given", str(name)):
                self._given.append((name, at))
            case function:
                args = tuple(self._at[id(a)] for a in node.args)
                self._steps.append((_function(function, node), args, at))
        return at

    def _constant(self, value: Any) -> Tensor:
        import torch

        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            self._constants[key] = torch.from_numpy(np.array(value)).to(self._device)
        return self._constants[key]

    def _last_uses(self) -> list[list[int]]:
        """For each step the values that nothing needs after it: memory for one tile of each pair may be a lot."""
        kept = {*self._results, *(i for i, value in enumerate(self._start) if value is not None)}
        found: list[list[int]] = []
        for _, args, _ in reversed(self._steps):
            found.append([a for a in dict.fromkeys(args) if a not in kept])
            kept.update(args)
        return found[::-1]


def _function(function: Any, node: Deferred) -> Callable[..., Tensor]:
    import torch

    if callable(function):
        return function  # type: ignore[no-any-return]
    if function == "astype":
        wanted: torch.dtype = getattr(torch, node.dtype.name)
        return lambda a: a.to(wanted)
    if function == "floor_divide" and node.dtype.kind != "f":
        return lambda a, b: torch.div(a, b, rounding_mode="floor")
    found = getattr(torch, TORCH.get(function, function), None)
    if found is None:
        raise NeedsElements(f"torch has no counterpart of numpy's {function}")
    return found  # type: ignore[no-any-return]
