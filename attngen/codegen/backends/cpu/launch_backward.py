"""Launching a CPU backward: totals for the gradients, and where each indexed load adds to them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from attngen.codegen.backend import BackwardLaunch, Call
from attngen.codegen.backends.cpu.abi import dynamic
from attngen.codegen.backends.cpu.config import SEGMENT, CpuConfig
from attngen.codegen.backends.cpu.emit_backward import viewed
from attngen.codegen.backends.cpu.launch import NOTHING
from attngen.codegen.calls.arguments import arguments_of
from attngen.codegen.calls.shapes import axes_of, tensor_fields, view_strides
from attngen.codegen.calls.tables import table_builders
from attngen.codegen.plan import Plan
from attngen.codegen.targets import MOST_AXES, Target, targets_of
from attngen.errors import AttngenError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

LARGEST_COPY = 1 << 30
"""Bytes that the sums of one irregularly indexed tensor may take in each thread."""


def prepare_backward(
    function: Callable[[bytes], int], config: CpuConfig, plan: Plan, call: Call, wanted: frozenset[str]
) -> BackwardLaunch:
    """A launch for tensors of the shapes, strides and dtypes of `call`."""
    import torch

    plan = plan.in_boxes(config.box)
    arguments = arguments_of(plan)
    names = [name for name, _ in arguments.tensors]
    operands = dict(zip(names, call.operands, strict=True))
    real = torch.float64 if call.operands[0].dtype == torch.float64 else torch.float32
    places = [
        [_place(target, operands[target.load.tensor]) for target in targets_of(plan, i, wanted)]
        for i in range(len(plan.branches))
    ]
    static = tensor_fields(plan, arguments, call)
    tail = struct.pack(f"={len(static) + 4}q", *static, 0, 0, 0, 0)
    tables = table_builders(plan, arguments, call, (config.query_tile, SEGMENT))
    pack = dynamic(arguments).pack
    threads, zeros = torch.get_num_threads, torch.zeros
    n_b, n_h, n_q = call.n_b, call.n_h, call.n_q
    queries = n_q if plan.order is None else plan.order.tokens
    axes = axes_of(call)
    something = n_b * n_h * n_q > 0
    # Totals are contiguous, so their strides are known before they exist.
    viewed_totals = [
        (name, operands[name].shape, view_strides(torch.empty(operands[name].shape, device="meta"), call))
        for name in viewed(plan)
    ]
    unused = [0] * (4 + 2 * MOST_AXES)
    fields_count = 6 + 5 * len(viewed_totals) + sum(len(unused) * max(1, len(branch)) for branch in places)
    pack_fields = struct.Struct(f"={fields_count}q").pack
    wanted_types = [
        tensor.dtype if name in wanted or any(name == seen for seen, _, _ in viewed_totals) else None
        for name, tensor in operands.items()
    ]

    def launch(
        dout: Tensor,
        dlse: Tensor | None,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rows: Tensor,
        inputs: Sequence[Tensor],
        scalars: Sequence[float],
    ) -> list[Tensor | None]:
        tensors = (q, k, v, *inputs)
        found: dict[str, Tensor] = {name: zeros(shape, dtype=real) for name, shape, _ in viewed_totals}
        sums = [[zeros(place.shape, dtype=real) for place in branch] for branch in places]
        if something:
            if dlse is not None:
                dlse = dlse.to(real).contiguous()
            pointers = [t.data_ptr() or NOTHING for t in tensors]
            pointers += (0, 0, rows.data_ptr())
            held = [table.build(inputs, scalars) for table in tables]  # alive until the kernel has read them
            for arrays in held:
                pointers += (a.ctypes.data for a in arrays)
            steps = dout.stride()
            fields = [dout.data_ptr(), 0 if dlse is None else dlse.data_ptr(), *(steps[a] for a in axes)]
            for name, _, strides in viewed_totals:
                fields += (found[name].data_ptr(), *strides)
            for branch, branch_sums in zip(places, sums, strict=True):
                for place, total in zip(branch, branch_sums, strict=True):
                    fields += (total.data_ptr(), *place.fields)
                if not branch:
                    fields += unused
            head = pack(n_b, n_h, queries, threads(), *pointers, *scalars)
            if function(head + tail + pack_fields(*fields)):
                raise AttngenError("the CPU kernel ran out of memory for its sums")
        for branch, branch_sums in zip(places, sums, strict=True):
            for place, total in zip(branch, branch_sums, strict=True):
                part, name = (total.sum(-1) if place.alone else total).permute(place.order), place.tensor
                found[name] = found[name] + part if name in found else part
        return [
            None if dtype is None else _finished(found.get(name), tensor, dtype)
            for name, tensor, dtype in zip(names, tensors, wanted_types, strict=True)
        ]

    return launch


def _finished(total: Tensor | None, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The gradient in the tensor's own type; a wanted tensor that nothing flows to gets zeros."""
    if total is None:
        return tensor.new_zeros(tensor.shape)
    return total if total.dtype == dtype else total.to(dtype)


@dataclass(frozen=True, slots=True)
class Place:
    """The total of one indexed load: its shape (fixed axes first), the order that leads back to the tensor's axes, and
    the fields of the C++ Target after the pointer. `alone`: sums and their rounding errors, side by side."""

    tensor: str
    alone: bool
    shape: tuple[int, ...]
    order: tuple[int, ...]
    fields: tuple[int, ...]


def _place(target: Target, tensor: Tensor) -> Place:
    axes = (*target.fixed, *target.free)
    shape = tuple(tensor.shape[a] for a in axes)
    count = prod(tensor.shape[a] for a in target.free)
    if 4 * count > LARGEST_COPY and not target.by_query:
        name = target.load.tensor
        raise InputError(
            f"{name}: its gradient needs {4 * count / 2**30:.1f} GiB of sums in each thread, and at most "
            f"{LARGEST_COPY / 2**30:.0f} GiB are taken; index {name} with q alone along one axis, or detach it"
        )
    if target.alone:
        shape, count = (*shape, 2), 2
    strides = [prod(shape[i + 1 :]) for i in range(len(axes))]
    by_axis = dict(zip(axes, strides, strict=True))
    free = [by_axis[a] if a in target.free else 0 for a in range(tensor.dim())]
    base = [by_axis[a] if a in target.fixed else 0 for a in range(tensor.dim())]
    inner = by_axis[target.free[0]] if target.by_query else 0
    room = [0] * (MOST_AXES - tensor.dim())
    order = tuple(axes.index(a) for a in range(tensor.dim()))
    fields = (count, inner, int(target.alone), *free, *room, *base, *room)
    return Place(target.load.tensor, target.alone, shape, order, fields)
