"""Checks of the input tensors of a call against their declarations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.errors import InputError
from attngen.ir.nodes import Input

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from attngen.runtime.call import Sizes


def check_inputs(
    declared: Sequence[Input], given: Sequence[Tensor], sizes: Sizes, device: torch.device, viewed: frozenset[str]
) -> None:
    """Rank, kind of dtype, device and labelled axes of every input tensor.

    What views read are keys or values of their own: in the layout of the call, with their own heads and lengths.
    """
    expected = {"b": sizes.n_b, "h": sizes.n_h, "q": sizes.n_q, "kv": sizes.n_k}
    for item, tensor in zip(declared, given, strict=True):
        if tensor.dim() != len(item.axes):
            raise InputError(
                f"{item.name}: got shape {tuple(tensor.shape)} of rank {tensor.dim()}; the spec reads it with "
                f"{len(item.axes)} indices"
            )
        kind = "float" if tensor.is_floating_point() else "bool" if str(tensor.dtype) == "torch.bool" else "int"
        if kind != item.type:
            raise InputError(f"{item.name}: got dtype {tensor.dtype}; the spec reads it as {item.type}")
        if tensor.device != device:
            raise InputError(f"{item.name}: is on {tensor.device}, but q is on {device}; move it there")
        if item.name in viewed:
            continue
        for axis, (label, size) in enumerate(zip(item.axes, tensor.shape, strict=True)):
            if label in expected and size not in (1, expected[label]):
                raise InputError(
                    f"{item.name}: dimension {axis} has {size} entries; the call has {expected[label]} there ({label})"
                )
