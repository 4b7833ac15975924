"""The argument block of a CPU kernel: one packed struct of 8-byte fields, declared in C++ and filled from Python.

First what changes from call to call (sizes of the work, pointers, run-time scalars), then what belongs to the shapes
(sizes and strides), so that a call packs the first part and appends the second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from struct import Struct

from attngen.codegen.plan import Plan

TABLE_PARTS = ("offsets", "begin", "end", "full", "pattern")


@dataclass(frozen=True, slots=True)
class Abi:
    """Names in the order in which they are packed. `tables` are (branch, key set) pairs that read a block table."""

    tensors: tuple[tuple[str, int], ...]
    ints: tuple[str, ...]
    floats: tuple[str, ...]
    tables: tuple[tuple[int, int], ...]

    def field(self, name: str) -> str:
        """What the members of an input are called: its own name may be no C++ identifier, or one of ours."""
        names = [*(n for n, _ in self.tensors), *self.ints, *self.floats]
        return name if name in ("q", "k", "v") else f"x{names.index(name)}_{re.sub('[^0-9A-Za-z_]', '_', name)}"

    def declaration(self) -> str:
        """The members of the C++ struct, after its `Call`."""
        lines = [f"  const void* {self.field(name)}_data;" for name, _ in self.tensors]
        lines += ["  void* out_data;", "  void* lse_data;", "  void* rows_data;"]
        lines += [f"  Table {table_name(*table)};" for table in self.tables]
        lines += [f"  int64_t {self.field(name)}_value;" for name in self.ints]
        lines += [f"  double {self.field(name)}_value;" for name in self.floats]
        lines += [
            f"  int64_t {self.field(n)}_size[{max(1, rank)}], {self.field(n)}_stride[{max(1, rank)}];"
            for n, rank in self.tensors
        ]
        lines += ["  int64_t out_stride[4];"]
        return "\n".join(lines)

    def dynamic(self) -> Struct:
        """Packs batch, heads, queries, threads, pointers, integers, floats."""
        pointers = len(self.tensors) + 3 + len(TABLE_PARTS) * len(self.tables)
        return Struct(f"=4q{pointers}Q{len(self.ints)}q{len(self.floats)}d")


def table_name(branch: int, keyset: int) -> str:
    """The name of a block table in the argument block."""
    return f"table_{branch}_{keyset}"


def abi_of(plan: Plan) -> Abi:
    """The argument block that a plan needs."""
    inputs = plan.spec.inputs
    return Abi(
        tensors=tuple((o.name, o.rank) for o in plan.problem.operands),
        ints=tuple(i.name for i in inputs if not i.axes and i.type != "float"),
        floats=tuple(i.name for i in inputs if not i.axes and i.type == "float"),
        tables=tuple(
            (i, j) for i, branch in enumerate(plan.branches) for j, k in enumerate(branch.keysets) if k.ranges is None
        ),
    )
