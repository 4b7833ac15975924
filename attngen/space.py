"""The index spaces that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attngen.arguments import refuse
from attngen.errors import SpecError
from attngen.ir import nodes

DIMS = "1 to 3 integers >= 1"


def Grid(*dims: int | Sequence[int]) -> nodes.Grid:
    """A grid of 1 to 3 dimensions: `Grid(32, 32)` or `Grid((32, 32))`.

    Tokens are the grid flattened row by row: q, k and v have prod(dims) of them, or the dimensions of the grid in place
    of one for tokens. Functions over it may read coordinates, `q[0]`, `kv[1]`, beside the flat `q` and `kv`.
    """
    return nodes.Grid(grid_dims("dims", dims[0] if len(dims) == 1 else dims))


def grid_dims(name: str, dims: object) -> tuple[int, ...]:
    """1 to 3 sizes; a single int is one dimension."""
    sizes = tuple(dims) if isinstance(dims, Sequence) and not isinstance(dims, str) else (dims,)
    if not 1 <= len(sizes) <= 3 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in sizes):
        raise refuse(name, dims, DIMS)
    return sizes


def per_dimension(name: str, value: Any, rank: int) -> tuple[Any, ...]:
    """One value for each dimension: the same for all, unless a sequence has one for each."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return (value,) * rank
    if len(value) != rank:
        raise SpecError(f"{name}: got {len(value)} values {tuple(value)}; allowed: one, or one for each of {rank} dims")
    return tuple(value)
