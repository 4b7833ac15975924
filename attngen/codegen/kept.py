"""Results that are made again only where the values that they come from have changed.

Values are compared, not identities: a tensor may be changed in place. On other devices than the CPU that would wait for
the device at every call: see `on_device`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

R = TypeVar("R")


class Kept(Generic[R]):
    """make(tensors, numbers) for the inputs and scalars of a call at these places, as it was for the last values.

    `constant` are places of tensors that nobody changes, which are compared by identity. What raises is not kept.
    """

    def __init__(
        self,
        make: Callable[[list[Tensor], tuple[float, ...]], R],
        tensors: Sequence[int],
        numbers: Sequence[int] = (),
        constant: frozenset[int] = frozenset(),
    ) -> None:
        self._make = make
        self._tensors = [(place, place in constant) for place in tensors]
        self._numbers = tuple(numbers)
        self._last: tuple[list[Seen], tuple[float, ...], R] | None = None

    def __call__(self, inputs: Sequence[Tensor], scalars: Sequence[float] = ()) -> R:
        """The result for these values, made from copies of them."""
        numbers = tuple(scalars[place] for place in self._numbers)
        last = self._last  # replaced in one step: other threads may be at it
        if last is None or last[1] != numbers or not self._same(inputs, last[0]):
            seen = [Seen(inputs[place], fixed) for place, fixed in self._tensors]
            last = self._last = (seen, numbers, self._make([each.copy for each in seen], numbers))
        return last[2]

    def _same(self, inputs: Sequence[Tensor], seen: list[Seen]) -> bool:
        return all(each.still(inputs[place]) for (place, _), each in zip(self._tensors, seen, strict=True))


class Seen:
    """A tensor as it was at a call. `fixed`: nobody changes it."""

    def __init__(self, tensor: Tensor, fixed: bool = False) -> None:
        self.copy = tensor if fixed else tensor.detach().clone()
        self._fixed = fixed

    def still(self, tensor: Tensor) -> bool:
        """Whether another one is the same tensor, or holds the same."""
        import torch

        return tensor is self.copy or (not self._fixed and torch.equal(tensor, self.copy))
