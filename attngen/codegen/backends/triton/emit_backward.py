"""The Triton source of a backward: three kernels, one after the other.

`rows` computes what rows hand out, `queries` the gradients of queries and what passes are worth, `keys` those of keys
and values. No sum is shared between programs, so results are the same in every run.
"""

from __future__ import annotations

from math import prod

from attngen.codegen.backend import SourceFile
from attngen.codegen.backends.triton.abi import backward_parameters
from attngen.codegen.backends.triton.config import GradientConfig, TritonConfig, key_boxes
from attngen.codegen.backends.triton.emit import for_key_tiles, offsets, prefixes, print_kernel, print_module
from attngen.codegen.backends.triton.emit_keys import KeysEmitter
from attngen.codegen.backends.triton.emit_queries import QueriesEmitter
from attngen.codegen.backends.triton.emit_rows import RowsEmitter
from attngen.codegen.backends.triton.flows import flows_of
from attngen.codegen.backends.triton.scope import Scope
from attngen.codegen.calls.arguments import arguments_of
from attngen.codegen.derive.factors import with_gathered_factors
from attngen.codegen.plan import Plan
from attngen.errors import InputError

KERNELS = ("rows", "queries", "keys")


def emit_backward(plan: Plan, config: GradientConfig, wanted: frozenset[str]) -> SourceFile:
    """The module of the backward."""
    if any(branch.scan for branch in plan.branches) and config.queries.block_n != config.keys.block_n:
        raise InputError(
            f"config: got tiles of {config.queries.block_n} and {config.keys.block_n} keys; a scan hands sums over "
            "tile by tile, so both kernels of its backward need tiles of the same number of keys"
        )
    arguments, names = arguments_of(plan), prefixes()
    gathered = with_gathered_factors(plan)
    by_queries = Scope(for_key_tiles(gathered, config.queries), arguments, config=config.queries)
    by_keys = Scope(gathered, arguments, by_keys=True, config=config.keys)
    given, flows = backward_parameters(plan, wanted), flows_of(plan, wanted)
    rows, queries, keys = [], [], []
    for i, offset in enumerate(offsets(plan)):
        rows.append(RowsEmitter(by_queries, i, offset, next(names), flows, wanted).text())
        queries.append(QueriesEmitter(by_queries, i, offset, names, flows, wanted).text())
        for j in range(len(plan.branches[i].keysets)):
            keys.append(KeysEmitter(by_keys, i, j, offset, names, flows, wanted).text())
    kernels = [
        print_kernel("rows", by_queries, given, config.queries, rows),
        print_kernel("queries", by_queries, given, config.queries, queries),
        print_kernel("keys", by_keys, given, config.keys, keys, tiles_of_keys(plan, config.keys)),
    ]
    text = print_module(f"backward, {plan.problem.dtype}, {config}", config.queries, kernels)
    return SourceFile("backward.py", text)


def tiles_of_keys(plan: Plan, config: TritonConfig) -> str:
    """How many tiles of keys a head has at most, in the kernel."""
    boxes = key_boxes(plan, config)
    linear = "(most_keys + BLOCK_N - 1) // BLOCK_N"
    return linear if boxes is None else f"tl.maximum({linear}, {prod(boxes.counts)})"
