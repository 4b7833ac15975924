"""The argument block of a CPU kernel: one packed struct of 8-byte fields, declared in C++ and filled from Python.

First what changes from call to call (sizes of the work, pointers, run-time scalars), then what belongs to the shapes
(sizes and strides), so that a call packs the first part and appends the second.
"""

from __future__ import annotations

from struct import Struct

from attngen.codegen.calls.arguments import TABLE_PARTS, Arguments


def declaration(arguments: Arguments) -> str:
    """The members of the C++ struct, after its `Call`."""
    lines = [f"  const void* {arguments.field(name)}_data;" for name, _ in arguments.tensors]
    lines += ["  void* out_data;", "  void* lse_data;", "  void* rows_data;"]
    lines += [f"  Table {table_name(*table)};" for table in arguments.tables]
    lines += [f"  int64_t {arguments.field(name)}_value;" for name in arguments.ints]
    lines += [f"  double {arguments.field(name)}_value;" for name in arguments.floats]
    lines += [
        f"  int64_t {arguments.field(n)}_size[{max(1, rank)}], {arguments.field(n)}_stride[{max(1, rank)}];"
        for n, rank in arguments.tensors
    ]
    lines += ["  int64_t out_stride[4];"]
    return "\n".join(lines)


def dynamic(arguments: Arguments) -> Struct:
    """Packs batch, heads, queries, threads, pointers, integers, floats."""
    pointers = len(arguments.tensors) + 3 + len(TABLE_PARTS) * len(arguments.tables)
    return Struct(f"=4q{pointers}Q{len(arguments.ints)}q{len(arguments.floats)}d")


def table_name(branch: int, keyset: int) -> str:
    """The name of a block table in the argument block."""
    return f"table_{branch}_{keyset}"
