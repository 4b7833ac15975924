"""The parameters of a Triton kernel: their names and types, in the order in which a launch passes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attngen.codegen.backends.triton.flows import flows_of
from attngen.codegen.backends.triton.parts import carried, parts_of, written_cotangents
from attngen.codegen.backends.triton.scope import Scope
from attngen.codegen.backends.triton.visits import TABLE_FIELDS, ranges_of, table_name
from attngen.codegen.calls.arguments import arguments_of
from attngen.codegen.plan import Plan
from attngen.ir.walk import views

ELEMENT = {
    "float64": "*fp64",
    "float32": "*fp32",
    "bfloat16": "*bf16",
    "float16": "*fp16",
    "int64": "*i64",
    "int32": "*i32",
    "int16": "*i16",
    "int8": "*i8",
    "uint8": "*u8",
    "bool": "*i1",
}
"""Element types that a kernel reads, by torch's name."""
NUMBER = {"i64": "tl.int64", "fp32": "tl.float32"}
OF_DTYPE = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True, slots=True)
class Parameters:
    """`signature`: Triton's type of each parameter by name. `numbers`: the type that kernels give to numbers.

    `pointers`, `strides` and `channels` belong to the tensors that views read and to the result; the last are 1 where
    channels lie side by side.
    """

    signature: dict[str, str]
    numbers: dict[str, str]
    pointers: tuple[str, ...]
    strides: tuple[str, ...]
    channels: tuple[str, ...]

    def constants(self, aligned: bool) -> dict[str, Any]:
        """What the variant for aligned tensors, or for all others, takes for granted."""
        return {**(dict.fromkeys(self.channels, 1) if aligned else {}), "ALIGNED": aligned}

    def divisible(self, aligned: bool) -> tuple[str, ...]:
        """The parameters that are multiples of 16 in that variant: addresses in bytes, strides in elements."""
        return (*self.pointers, *self.strides) if aligned else ()


def parameters(plan: Plan) -> Parameters:
    """What a launch of the forward passes: pointers, numbers of the spec, sizes of the work, sizes and strides of every
    tensor."""
    results = {"out_data": ELEMENT[OF_DTYPE[plan.problem.dtype]]}
    if plan.problem.return_lse:
        results["lse_data"] = "*fp32"
    results["saved_data"] = "*fp32"
    return _parameters(plan, results, ("save",), ("out",), by_keys=False)


def backward_parameters(plan: Plan, wanted: frozenset[str]) -> Parameters:
    """What a launch of any kernel of the backward passes, of which each takes what it needs."""
    element = ELEMENT[OF_DTYPE[plan.problem.dtype]]
    given = {"dout_data": element, "saved_data": "*fp32", "state_data": "*fp32"}
    if plan.problem.return_lse:
        given["dlse_data"] = "*fp32"
    for i in range(len(plan.branches)):
        given |= {f"{name}_{i}_data": element for name in written_cotangents(plan, i)}
    given |= dict.fromkeys(carried(plan), "*fp32")
    parts = parts_of(plan)
    given |= {f"{part.name}_data": element if part.direct else "*fp32" for part in parts}
    for flow in flows_of(plan, wanted):
        given |= flow.parameters()
    numbers = ("has_dlse", "group", "most_keys")
    return _parameters(plan, given, numbers, ("dout", *(part.name for part in parts)), by_keys=True)


def _parameters(
    plan: Plan, more: dict[str, str], numbers: tuple[str, ...], strided: tuple[str, ...], by_keys: bool
) -> Parameters:
    """Operands, then `more` pointers, tables, numbers of the spec and of the launch, then sizes and strides."""
    arguments = arguments_of(plan)
    found: dict[str, str] = {}
    for operand in plan.problem.operands:
        found[f"{arguments.field(operand.name)}_data"] = ELEMENT[operand.dtype]
    found |= more
    tables = [table_name(*table) for table in arguments.tables]
    turned = [table_name(*table, by_keys=True) for table in turned_tables(plan)] if by_keys else []
    for table in (*tables, *turned):
        found |= {f"{table}_{field}": "*i32" for field in TABLE_FIELDS}
    found |= {arguments.field(name): "i64" for name in arguments.ints}
    found |= {arguments.field(name): "fp32" for name in arguments.floats}
    sizes = ["n_b", "n_h", "n_q", "together", *numbers, *(f"{table}_rows" for table in turned)]
    for name, rank in arguments.tensors:
        field = arguments.field(name)
        sizes += [f"{field}_size{i}" for i in range(max(1, rank))]
        sizes += [f"{field}_stride{i}" for i in range(max(1, rank))]
    sizes += [f"{name}_stride{i}" for name in strided for i in range(4)]
    found |= dict.fromkeys(sizes, "i64")
    tiles = (*sorted({arguments.field(view.tensor) for view in views(plan.spec)}), *strided)
    channels = tuple(f"{field}_stride3" for field in tiles)
    return Parameters(
        signature=found,
        numbers={n: NUMBER[kind] for n, kind in found.items() if kind in NUMBER and n not in channels},
        pointers=tuple(f"{field}_data" for field in tiles),
        strides=tuple(f"{field}_stride{i}" for field in tiles for i in range(3)),
        channels=channels,
    )


def turned_tables(plan: Plan) -> list[tuple[int, int]]:
    """The key sets, as (branch, key set), for which a table tells a key tile which queries see it."""
    by_keys = Scope(plan, arguments_of(plan), by_keys=True)
    return [
        (i, j)
        for i, branch in enumerate(plan.branches)
        for j, keyset in enumerate(branch.keysets)
        if ranges_of(by_keys, keyset) is None
    ]
