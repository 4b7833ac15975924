"""Launching a CPU kernel: whatever depends on shapes is packed once; a call adds pointers and run-time scalars."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from attngen.codegen.backend import Call, Launch
from attngen.codegen.backends.cpu.abi import dynamic
from attngen.codegen.backends.cpu.config import SEGMENT, CpuConfig
from attngen.codegen.calls.arguments import arguments_of
from attngen.codegen.calls.checks import input_checks
from attngen.codegen.calls.shapes import axes_of, tensor_fields
from attngen.codegen.calls.tables import table_builders
from attngen.codegen.plan import Plan
from attngen.codegen.result import result_memory
from attngen.codegen.saved import saved_columns
from attngen.errors import AttngenError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

ZEROS = ctypes.create_string_buffer(64)
NOTHING = ctypes.addressof(ZEROS)
"""Where the pointer of an empty tensor leads: a row without keys may still look something up before it is dropped."""


def prepare(function: Callable[[bytes], int], config: CpuConfig, plan: Plan, call: Call) -> Launch:
    """A launch for tensors of the shapes, strides and dtypes of `call`."""
    import torch

    plan = plan.in_boxes(config.box)
    arguments = arguments_of(plan)
    turned = call.layout == "bnhd"
    sizes4 = (call.n_b, call.n_h, call.n_q, plan.width)
    shape, strides = result_memory(sizes4, call.operands[0].stride(), call.layout)
    static = [*tensor_fields(plan, arguments, call), *(strides[a] for a in axes_of(call))]
    tables = table_builders(plan, arguments, call, (config.query_tile, SEGMENT))
    tail = struct.pack(f"={len(static)}q", *static)
    pack = dynamic(arguments).pack
    check = input_checks(plan, call)

    like = call.operands[0]
    dtype, lse_dtype = like.dtype, torch.float64 if like.dtype == torch.float64 else torch.float32
    n_b, n_h, n_q = call.n_b, call.n_h, call.n_q
    queries = n_q if plan.order is None else plan.order.tokens
    saved = (n_b, n_h, n_q, saved_columns(plan))
    return_lse = plan.problem.return_lse
    keys = dict(zip((name for name, _ in arguments.tensors), call.operands, strict=True))
    sets = [keyset.v.tensor for branch in plan.branches for keyset in branch.keysets]
    empty = all(keys[name].shape[1 if turned else 2] == 0 for name in sets)
    empty_strided, threads = torch.empty_strided, torch.get_num_threads

    def launch(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        inputs: Sequence[Tensor],
        scalars: Sequence[float],
        save: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if check is not None:
            check(inputs, scalars)
        out = empty_strided(shape, strides, dtype=dtype)
        lse = torch.empty(saved[:3], dtype=lse_dtype) if return_lse else None
        rows = torch.empty(saved, dtype=lse_dtype) if save else None
        pointers = [t.data_ptr() or NOTHING for t in (q, k, v, *inputs)]
        pointers += (
            out.data_ptr(),
            0 if lse is None else lse.data_ptr(),
            0 if rows is None else rows.data_ptr(),
        )
        held = [table.build(inputs, scalars) for table in tables]  # alive until the kernel has read them
        for arrays in held:
            pointers += (a.ctypes.data for a in arrays)
        if function(pack(n_b, n_h, queries, threads(), *pointers, *scalars) + tail):
            raise AttngenError("the CPU kernel ran out of memory for its tiles")
        if empty:
            out.zero_()
        return out, lse, rows

    return launch
