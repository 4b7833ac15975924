"""Launching a backward in Triton: three kernels, then the sums that the host adds up."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from attngen.codegen.backend import BackwardLaunch, Call
from attngen.codegen.backends.triton.abi import turned_tables
from attngen.codegen.backends.triton.config import GradientConfig, key_boxes, tiles_of_queries
from attngen.codegen.backends.triton.emit_backward import KERNELS
from attngen.codegen.backends.triton.flows import flows_of
from attngen.codegen.backends.triton.gather import FlowSums, PartSums
from attngen.codegen.backends.triton.launch import together
from attngen.codegen.backends.triton.parts import carried, parts_of, state_columns, written_cotangents
from attngen.codegen.backends.triton.tables import TileTable
from attngen.codegen.calls.arguments import arguments_of
from attngen.codegen.calls.shapes import axes_of, tensor_fields
from attngen.codegen.calls.tables import TableBuilder, table_builders
from attngen.codegen.pages import capacity
from attngen.codegen.plan import KeySetPlan, Plan
from attngen.ir.nodes import Paged
from attngen.ir.walk import views

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from attngen.codegen.backends.triton.variants import Variants


@dataclass(frozen=True, slots=True)
class Grid:
    """Sizes of the work. `group`: heads of queries that a program of the last kernel takes, as they read one head of
    keys. `most_keys`: of the key set with the most."""

    n_b: int
    n_h: int
    n_q: int
    group: int
    most_keys: int

    @property
    def owners(self) -> int:
        """Heads of which the last kernel writes sums."""
        return self.n_h // self.group


def prepare_backward(
    kernels: Mapping[str, Variants], config: GradientConfig, plan: Plan, call: Call, wanted: frozenset[str]
) -> BackwardLaunch:
    """A launch for tensors of the shapes, strides and dtypes of `call`."""
    import torch

    arguments = arguments_of(plan)
    names = [name for name, _ in arguments.tensors]
    operands = dict(zip(names, call.operands, strict=True))
    like = call.operands[0]
    device, dtype = like.device, like.dtype
    counts = {
        (i, j): _keys(plan, keyset, operands, call, j == 0)
        for i, branch in enumerate(plan.branches)
        for j, keyset in enumerate(branch.keysets)
    }
    grid = Grid(call.n_b, call.n_h, call.n_q, _group(plan, operands, call), max(counts.values()))
    tables = [
        TileTable(builder, plan.branches[place[0]].scan is not None, device)
        for builder, place in zip(
            table_builders(plan, arguments, call, config.queries.shape), arguments.tables, strict=True
        )
    ]
    turned = []
    for i, j in turned_tables(plan):
        tile = (config.keys.block_n, config.keys.block_m)
        builder = TableBuilder(plan, arguments, plan.branches[i].keysets[j], j == 0, call, tile, by_keys=True)
        turned.append((TileTable(builder, False, device), -(-counts[i, j] // tile[0])))
    parts = [PartSums(part, plan, call, operands, grid, counts[part.branch, part.keyset]) for part in parts_of(plan)]
    tiles = tiles_of_queries(config.queries, plan, call.n_q)
    boxes = key_boxes(plan, config.keys)
    key_tiles = max(-(-grid.most_keys // config.keys.block_n), 0 if boxes is None else prod(boxes.counts))
    flows = [
        FlowSums(flow, operands[flow.load.tensor], device, grid, tiles, plan.branches[flow.branch].width, counts)
        for flow in flows_of(plan, wanted)
    ]
    static = tensor_fields(plan, arguments, call)
    sizes = [call.n_b, call.n_h, call.n_q, together(plan, call)]
    axes = axes_of(call)
    rows = call.n_b * call.n_h * call.n_q
    columns = sum(len(found) for found in state_columns(plan))
    vectors = [plan.branches[i].width for i in range(len(plan.branches)) for _ in written_cotangents(plan, i)]
    # The tiles of keys of both kernels are the same.
    carries = max(1, rows * -(-grid.most_keys // config.keys.block_n))
    # An empty tensor has no address.
    nothing = {t.dtype: torch.zeros(1, dtype=t.dtype, device=device) for t in call.operands if t.numel() == 0}
    grids = {
        "rows": (call.n_b * call.n_h * tiles, 1, 1),
        "queries": (call.n_b * call.n_h * tiles, 1, 1),
        "keys": (call.n_b * grid.owners * key_tiles, 1, 1),
    }
    has_lse = plan.problem.return_lse

    def launch(
        dout: Tensor,
        dlse: Tensor | None,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        saved: Tensor,
        inputs: Sequence[Tensor],
        scalars: Sequence[float],
    ) -> list[Tensor | None]:
        tensors = (q, k, v, *inputs)
        found: dict[str, Tensor] = {}
        sums = [part.new() for part in parts]
        told = [flow.new() for flow in flows]
        if rows:
            read = [t if t.numel() else nothing[t.dtype] for t in tensors]
            state = torch.empty(columns * rows, dtype=torch.float32, device=device)
            given = [dout, saved, state]
            if has_lse:
                # A pointer has to be there, even where nobody asked for the gradient of the log-sum-exp.
                given.append(state if dlse is None else dlse.to(torch.float32).contiguous())
            given += [torch.empty(rows * width, dtype=dtype, device=device) for width in vectors]
            given += [torch.empty(carries, dtype=torch.float32, device=device) for _ in carried(plan)]
            given += [*sums, *(pointer for pointers in told for pointer in pointers)]
            given += [a for table in tables for a in table(inputs, scalars)]
            given += [a for table, _ in turned for a in table(inputs, scalars)]
            numbers = [*scalars, *sizes, int(dlse is not None), grid.group, grid.most_keys]
            numbers += [count for _, count in turned]
            steps = dout.stride()
            if 0 in steps:
                # The cotangent of a sum is one number for all; loads of tiles want it written out.
                dout = dout.contiguous()
                given[0], steps = dout, dout.stride()
            numbers += [*static, *(steps[a] for a in axes), *(n for part in parts for n in part.strides)]
            for name in KERNELS:
                if grids[name][0]:
                    kernels[name].run(grids[name], [*read, *given, *numbers])
                if name == "queries":
                    for flow, pointers in zip(flows, told, strict=True):
                        flow.settle(pointers)
        else:
            sums = [torch.zeros_like(each) for each in sums]
        for part, each in zip(parts, sums, strict=True):
            part.add_to(found, each, inputs)
        for flow, pointers in zip(flows, told, strict=True):
            flow.add_to(found, pointers)
        return [
            _finished(found.get(name), tensor, name in wanted or name in seen)
            for name, tensor in zip(names, tensors, strict=True)
        ]

    seen = {view.tensor for view in views(plan.spec)}
    return launch


def _finished(total: Tensor | None, tensor: Tensor, asked: bool) -> Tensor | None:
    if not asked:
        return None
    return tensor.new_zeros(tensor.shape) if total is None else total.to(tensor.dtype)


def _keys(plan: Plan, keyset: KeySetPlan, operands: Mapping[str, Tensor], call: Call, main: bool) -> int:
    """The keys of a set; in pages, those that the table of a batch has room for."""
    space = plan.spec.space
    if isinstance(space, Paged) and main:
        return capacity(space, tuple(operands[space.table].shape))
    return operands[keyset.v.tensor].shape[axes_of(call)[2]]


def _group(plan: Plan, operands: Mapping[str, Tensor], call: Call) -> int:
    """How many heads of queries read the same head of all keys and values; 1 where views choose heads themselves."""
    heads = axes_of(call)[1]
    read = [part.view for part in parts_of(plan) if part.role != "query"]
    counts = {operands[view.tensor].shape[heads] for view in read}
    owners = max(1, *counts)
    even = call.n_h % owners == 0 and all(count and owners % count == 0 for count in counts)
    return call.n_h // owners if even and all(view.head is None for view in read) else 1
