"""Launching a Triton kernel: whatever depends on shapes is put together once; a call adds tensors and numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.codegen.backend import Call, Launch
from attngen.codegen.backends.triton.config import TritonConfig, tiles_of_queries
from attngen.codegen.backends.triton.tables import TileTable
from attngen.codegen.calls.arguments import arguments_of
from attngen.codegen.calls.checks import input_checks
from attngen.codegen.calls.lanes import PAIRS
from attngen.codegen.calls.shapes import axes_of, tensor_fields
from attngen.codegen.calls.tables import table_builders
from attngen.codegen.plan import Plan
from attngen.codegen.result import result_memory
from attngen.codegen.saved import saved_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from attngen.codegen.backends.triton.variants import Variants

SHARED_CACHE = 32 << 20
"""Bytes of keys and values of the heads that are worked on at the same time: a good part of a second-level cache."""


def prepare(variants: Variants, config: TritonConfig, plan: Plan, call: Call) -> Launch:
    """A launch for tensors of the shapes, strides and dtypes of `call`."""
    import torch

    arguments = arguments_of(plan)
    like = call.operands[0]
    shape, strides = result_memory((call.n_b, call.n_h, call.n_q, plan.width), like.stride(), call.layout)
    builders = table_builders(plan, arguments, call, config.shape)
    tables = [
        TileTable(builder, plan.branches[place[0]].scan is not None, like.device)
        for builder, place in zip(builders, arguments.tables, strict=True)
    ]
    check = input_checks(plan, call, PAIRS)
    n_b, n_h, n_q = call.n_b, call.n_h, call.n_q
    sizes = [n_b, n_h, n_q, together(plan, call)]
    static = [*tensor_fields(plan, arguments, call), *(strides[a] for a in axes_of(call))]
    grid = (n_b * n_h * tiles_of_queries(config, plan, n_q), 1, 1)
    columns = saved_columns(plan)
    return_lse, device, dtype = plan.problem.return_lse, like.device, like.dtype
    # An empty tensor has no address.
    nothing = {t.dtype: torch.zeros(1, dtype=t.dtype, device=device) for t in call.operands if t.numel() == 0}

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
        out = torch.empty_strided(shape, strides, dtype=dtype, device=device)
        lse = torch.empty((n_b, n_h, n_q), dtype=torch.float32, device=device) if return_lse else None
        held = [part for table in tables for part in table(inputs, scalars)]
        rows = torch.empty((n_b, n_h, n_q, columns), dtype=torch.float32, device=device) if save else None
        results = [out] if lse is None else [out, lse]
        # A pointer has to be there.
        results.append(out if rows is None else rows)
        if grid[0]:
            # A row without keys may still look something up before it is dropped.
            read = [t if t.numel() else nothing[t.dtype] for t in (q, k, v, *inputs)]
            variants.run(grid, [*read, *results, *held, *scalars, *sizes, int(save), *static])
        return out, lse, rows

    return launch


def together(plan: Plan, call: Call) -> int:
    """How many heads are worked on at the same time."""
    k, v = call.operands[1], call.operands[2]
    bytes_of_a_head = (k.shape[-1] + v.shape[-1]) * k.element_size() * (k.numel() // max(1, k.shape[-1] * call.n_b))
    heads = call.n_h * SHARED_CACHE // max(1, bytes_of_a_head)
    return max(1, min(call.n_b * call.n_h, heads))
