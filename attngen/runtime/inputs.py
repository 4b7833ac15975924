"""Checks of the input tensors of a call against their declarations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.errors import InputError
from attngen.ir.expr import Sym, loads
from attngen.ir.nodes import Input, Paged, Segments, Spec
from attngen.ir.walk import expressions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from torch import Tensor

    from attngen.runtime.call import Sizes


def plain_indices(spec: Spec) -> dict[tuple[str, int], str]:
    """The axes of inputs that are only ever indexed with b, or only with h, as they are."""
    found: dict[tuple[str, int], set[str]] = {}
    for load in loads(*expressions(spec)):
        for axis, index in enumerate(load.indices):
            name = index.name if isinstance(index, Sym) else "?"
            found.setdefault((load.tensor, axis), set()).add(name)
    return {place: next(iter(names)) for place, names in found.items() if names in ({"b"}, {"h"})}


def labelled_sizes(spec: Spec, sizes: Sizes, inputs: Mapping[str, Tensor]) -> dict[str, int]:
    """The entries of labelled axes. Along "b" packed sequences count; paged keys have no number of their own."""
    found = {"b": sizes.n_b, "h": sizes.n_h, "q": sizes.n_q, "kv": sizes.n_k}
    match spec.space:
        case Segments(q_offsets=name):
            found["b"] = max(0, len(inputs[name]) - 1) if inputs[name].dim() else 0
        case Paged():
            del found["kv"]
    return found


def check_inputs(
    declared: Sequence[Input],
    given: Sequence[Tensor],
    expected: Mapping[str, int],
    device: torch.device,
    viewed: frozenset[str],
    indexed: Mapping[tuple[str, int], str],
) -> None:
    """Rank, kind of dtype, device and labelled axes of every input tensor.

    `expected` are the entries of labelled axes. `indexed`: axes that the spec reads at b or at h itself, so that they
    have one entry for each batch or head; an axis that is declared as "b" or "h" may also have one entry for all. What
    views read are keys or values of their own: in the layout of the call, with their own heads and lengths.
    """
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
        for axis, size in enumerate(tensor.shape):
            label = item.axes[axis] if item.axes[axis] in expected else indexed.get((item.name, axis))
            one_for_all = size == 1 and item.axes[axis] in ("b", "h")
            if label is not None and size != expected[label] and not one_for_all:
                raise InputError(
                    f"{item.name}: dimension {axis} has {size} entries; the call has {expected[label]} there ({label})"
                )
