"""Neighborhood attention on a grid."""

# mypy: allow-untyped-defs
from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

from attngen.arguments import each, head_integers, integer, is_tensor
from attngen.errors import SpecError
from attngen.frontend import static
from attngen.masks.mask import Mask
from attngen.remember import remembered
from attngen.space import grid_dims, per_dimension

if TYPE_CHECKING:
    from torch import Tensor

Sizes = int | Sequence["int | Tensor"]


@remembered
def neighborhood(
    dims: int | Sequence[int],
    kernel_size: Sizes,
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    is_causal: bool | Sequence[bool] = False,
) -> Mask:
    """The `kernel_size` nearest keys in every dimension of the grid `dims`: NATTEN's neighborhood attention.

    Without causality every row sees exactly prod(kernel_size) keys: at the borders the window is moved inwards, not
    cut. An even size reaches one further to the left. `stride` s: groups of s queries share the window of their leader,
    position min(i // s * s + s // 2, length - 1); s = kernel_size is blocked attention. `dilation` d: only keys with
    the same remainder by d, the rules above holding within each such group. A causal dimension keeps keys up to the
    query and is not moved inwards: row i sees min(i + 1, kernel_size - (leader - i)) of them, never none, where the
    leader is min(i // s * s + s - 1, length - 1).

    Each argument is one value or one per dimension. Legal: kernel_size >= 2, kernel_size * dilation <= length,
    1 <= stride <= kernel_size, dilation >= 1. These are constants of the kernel, except that a kernel size may be an
    integer tensor (H,), one per query head: read anew at every call, and later values are the caller's to keep legal.
    Source: SHI-Labs/NATTEN, arXiv 2204.07143; strides are GNA, arXiv 2504.16922.
    """
    lengths = grid_dims("dims", dims)
    rank = len(lengths)
    sizes = per_dimension("kernel_size", kernel_size, rank)
    strides = per_dimension("stride", stride, rank)
    dilations = per_dimension("dilation", dilation, rank)
    causal = per_dimension("is_causal", is_causal, rank)
    for i, length in enumerate(lengths):
        _check(i, length, sizes[i], strides[i], dilations[i], causal[i])
    rows = zip(sizes, strides, dilations, causal, strict=True)
    return reduce(and_, (_along(lengths, i, *row) for i, row in enumerate(rows))).called("neighborhood")


def _along(dims: tuple[int, ...], axis: int, size: int | Tensor, stride: int, dilation: int, causal: bool) -> Mask:
    """The window in one dimension; in the formulas i, j and n count within a dilation group."""
    import torch

    if not is_tensor(size) and size == dims[axis] and not causal:
        return Mask.of(lambda: True, "neighborhood", grid=dims)
    extent: Any = size if is_tensor(size) else static(size)
    causal = static(causal)
    axis, length, stride, dilation = (static(x) for x in (axis, dims[axis], stride, dilation))

    def window(h, q, kv):
        kernel, i, j = each(extent, h), q[axis], kv[axis]
        n: Any = length
        if dilation > 1:
            n = length // dilation
            if length % dilation:  # the first groups are longer by one
                n = n + torch.where(i % dilation < length % dilation, 1, 0)
            i, j = i // dilation, j // dilation
        leader = i
        if stride > 1:
            last = stride - 1 if causal else stride // 2
            leader = torch.clamp(i // stride * stride + last, max=n - 1)
        if causal:
            return (j > leader - kernel) & (j <= i)
        start = torch.clamp(torch.clamp(leader - kernel // 2, max=n - kernel), min=0)
        return (j >= start) & (j < start + kernel)

    mask = Mask.of(window, "neighborhood", grid=dims)
    if dilation > 1:
        mask = mask & Mask.of(lambda q, kv: (q[axis] - kv[axis]) % dilation == 0, "dilation", grid=dims)
    return mask


def _check(axis: int, length: int, size: Any, stride: Any, dilation: Any, causal: Any) -> None:
    """NATTEN's rules; the message names the dimension and the legal range."""
    where = f"dimension {axis} of length {length}"
    if length < 2:
        raise SpecError(f"dims[{axis}]: got {length}; allowed: an integer >= 2 in every dimension")
    integer(f"dilation[{axis}]", dilation, 1, length // 2, allowed=f"1 .. {length // 2} in {where}")
    longest = length // dilation
    allowed = f"2 .. {longest} for dilation {dilation} in {where}"
    smallest, _ = head_integers(f"kernel_size[{axis}]", size, 2, longest, allowed)
    integer(f"stride[{axis}]", stride, 1, smallest, allowed=f"1 .. {smallest} (its kernel_size) in {where}")
    if not isinstance(causal, bool):
        raise SpecError(f"is_causal[{axis}]: got {causal!r}; allowed: True or False")
