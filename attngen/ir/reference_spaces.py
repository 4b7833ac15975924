"""Brings packed sequences and paged keys to the dense form that the reference computes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from attngen.errors import InputError
from attngen.ir.nodes import Paged, Segments
from attngen.ir.reference_call import Call

if TYPE_CHECKING:
    from torch import Tensor


def from_pages(call: Call, space: Paged) -> Call:
    """The call with the keys and values of each batch gathered from their pages."""
    import torch

    table, lengths = call.inputs[space.table], call.inputs[space.lengths]
    if table.shape[0] != call.n_b or lengths.shape[0] != call.n_b:
        raise InputError(
            f"{space.table}, {space.lengths}: got {table.shape[0]} and {lengths.shape[0]} rows, q has {call.n_b}"
        )
    kv = torch.arange(table.shape[1] * space.page, device=call.device)
    if bool((lengths < 0).any()) or bool((lengths > len(kv)).any()):
        raise InputError(f"{space.lengths}: lengths must be in 0 .. {len(kv)}, the keys that the page table holds")
    read = (kv < lengths[:, None]).reshape(call.n_b, table.shape[1], space.page).any(-1)
    gathered: dict[str, Tensor] = {}
    for name in ("k", "v"):
        pool = call.operands[name]
        if pool.shape[2] != space.page:
            raise InputError(f"{name}: got pages of {pool.shape[2]} keys; the spec says {space.page}")
        # Entries past the length are never read, whatever they hold.
        pages = torch.where(read, table, 0)
        if bool((pages < 0).any()) or bool((pages >= max(1, pool.shape[0])).any()):
            raise InputError(f"{space.table}: a page in use is outside 0 .. {pool.shape[0] - 1}")
        taken = (
            pool[pages].transpose(1, 2).flatten(2, 3) if pool.shape[0] else pool.new_zeros(call.n_b, *pool.shape[1:])
        )
        gathered[name] = taken
    return replace(call, operands={**call.operands, **gathered}, lengths=lengths.reshape(-1, 1, 1, 1))


def segments(call: Call, space: Segments) -> Iterator[Call]:
    """One call for each packed sequence. Along axes "q" and "kv" its inputs are cut as q and k are."""
    offsets = {"q": call.inputs[space.q_offsets].tolist(), "kv": call.inputs[space.k_offsets].tolist()}
    for axis, name, total in (("q", space.q_offsets, call.n_q), ("kv", space.k_offsets, call.n_k)):
        at = offsets[axis]
        if not at or at[0] != 0 or at[-1] != total or any(a > b for a, b in pairwise(at)):
            raise InputError(f"{name}: offsets must rise from 0 to the {total} tokens, got {at}")
    if len(offsets["q"]) != len(offsets["kv"]):
        raise InputError(
            f"{space.k_offsets}: got {len(offsets['kv'])} entries, {space.q_offsets} has {len(offsets['q'])}"
        )
    axes: dict[str, tuple[str, ...]] = {
        "q": ("b", "h", "q", "?"),
        "k": ("b", "h", "kv", "?"),
        "v": ("b", "h", "kv", "?"),
    }
    axes |= {i.name: i.axes for i in call.spec.inputs}

    def cut(name: str, tensor: Tensor, i: int) -> Tensor:
        for dimension, axis in enumerate(axes[name]):
            if axis in offsets:
                start, stop = offsets[axis][i : i + 2]
                tensor = tensor.narrow(dimension, start, stop - start)
        return tensor

    for i in range(call.n_b):
        yield replace(
            call,
            operands={name: cut(name, t, i) for name, t in call.operands.items()},
            inputs={name: cut(name, t, i) for name, t in call.inputs.items()},
            segment=i,
        )
