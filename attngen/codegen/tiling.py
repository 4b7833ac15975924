"""Which plans may have tiles that are boxes of a grid."""

from __future__ import annotations

from math import prod

from attngen.codegen.analysis import AxisRanges
from attngen.codegen.plan import Plan
from attngen.ir.nodes import Grid


def box_axes(plan: Plan, volume: int) -> list[tuple[AxisRanges, ...]]:
    """The ranges along each axis of every branch, where boxes of `volume` tokens serve all of them; else nothing.

    Keys of the grid have to be restricted axis by axis, by a mask: nothing else would hide what pads boxes at the edge.
    A scan takes keys in their order.
    """
    space = plan.spec.space
    if not isinstance(space, Grid) or len(space.dims) < 2 or prod(space.dims) < 2 * volume:
        return []
    found = []
    for branch in plan.branches:
        main, *others = branch.keysets
        if branch.scan is not None or not main.masked or any(keyset.masked for keyset in others):
            return []
        if main.ranges is None or not main.ranges.axes:
            return []
        found.append(main.ranges.axes)
    return found
