"""Attention along one axis of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_

from attngen.arguments import integer
from attngen.errors import SpecError
from attngen.frontend import static
from attngen.masks.mask import Mask
from attngen.remember import remembered
from attngen.space import grid_dims


@remembered
def axial(dims: Sequence[int], axis: int) -> Mask:
    """Keys that differ from the query in coordinate `axis` alone: every row sees dims[axis] keys, itself among them.

    `dims` are 2 or 3 lengths, 0 <= axis < len(dims). `axial(dims, 0) | axial(dims, 1)` is criss-cross attention: a row
    sees dims[0] + dims[1] - 1 keys. Source: axial attention, arXiv 1912.12180; CCNet, arXiv 1811.11721.
    """
    lengths = grid_dims("dims", dims)
    if len(lengths) == 1:
        raise SpecError(f"dims: got {dims}; allowed: 2 or 3 integers >= 1 (along the only axis every key is seen)")
    integer("axis", axis, 0, len(lengths) - 1)
    others = (_same(lengths, i) for i in range(len(lengths)) if i != axis)
    return reduce(and_, others).called("axial")


def _same(dims: tuple[int, ...], axis: int) -> Mask:
    axis = static(axis)
    return Mask.of(lambda q, kv: q[axis] == kv[axis], "axial", grid=dims)
