"""Tokens of a grid in the order of boxes: what makes a query tile, and the key tiles that it meets, boxes of the grid.

A run of consecutive tokens is a thin slice of the grid, and what its queries see together is much more than what each
of them sees; a box of as many tokens is compact. Kernels count tokens box by box, and row by row within a box; nothing
is moved in memory. Source of the idea: Generalized Neighborhood Attention, arXiv 2504.16922, which permutes tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod


@dataclass(frozen=True, slots=True)
class Boxes:
    """The order of the tokens of a grid of `dims`; `sides` of a box, powers of two, one for each axis.

    Boxes at the edge are padded: `tokens` counts those that do not exist as well.
    """

    dims: tuple[int, ...]
    sides: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Boxes along each axis."""
        return tuple(-(-dim // side) for dim, side in zip(self.dims, self.sides, strict=True))

    @property
    def volume(self) -> int:
        """Tokens of a box."""
        return prod(self.sides)

    @property
    def tokens(self) -> int:
        """Tokens of all boxes."""
        return self.volume * prod(self.counts)

    def padded(self, axis: int) -> bool:
        """Whether the last boxes along an axis reach over the edge."""
        return self.dims[axis] % self.sides[axis] != 0
