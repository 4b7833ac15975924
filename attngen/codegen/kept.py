"""Results that are made again only where the values that they come from have changed.

Values are compared, not identities: a tensor may be changed in place.
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
        self._last: tuple[list[Tensor], tuple[float, ...], R] | None = None

    def __call__(self, inputs: Sequence[Tensor], scalars: Sequence[float] = ()) -> R:
        """The result for these values. Its tensors are copies of them."""
        numbers = tuple(scalars[place] for place in self._numbers)
        last = self._last  # replaced in one step: other threads may be at it
        if last is None or last[1] != numbers or not self._same(inputs, last[0]):
            copies = [inputs[place] if fixed else inputs[place].detach().clone() for place, fixed in self._tensors]
            last = self._last = (copies, numbers, self._make(copies, numbers))
        return last[2]

    def _same(self, inputs: Sequence[Tensor], copies: list[Tensor]) -> bool:
        import torch

        return all(
            inputs[place] is copy or (not fixed and torch.equal(inputs[place], copy))
            for (place, fixed), copy in zip(self._tensors, copies, strict=True)
        )
