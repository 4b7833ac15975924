"""The memory of a result: one rule for what kernels write and for what tracing promises."""

from __future__ import annotations

from collections.abc import Sequence


def result_memory(
    sizes: tuple[int, int, int, int], q_strides: Sequence[int], layout: str
) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """Shape and strides of the result of (batch, heads, queries, width), in the given layout.

    Batch, heads and positions lie in q's memory order, channels last; where q's strides are equal, in the order of the
    layout.
    """
    n_b, n_h, n_q, width = sizes
    shape = (n_b, n_q, n_h, width) if layout == "bnhd" else (n_b, n_h, n_q, width)
    strides, step = [0, 0, 0, 1], width
    for axis in sorted((2, 1, 0), key=lambda axis: q_strides[axis]):
        strides[axis] = step
        step = step * max(1, shape[axis])
    return shape, (strides[0], strides[1], strides[2], 1)
