"""The CPU source of a plan: the structs that the skeleton in templates/cpp leaves open, printed from the IR."""

from __future__ import annotations

from dataclasses import dataclass

from attngen.codegen.backend import SourceFile
from attngen.codegen.backends.cpu.abi import declaration
from attngen.codegen.backends.cpu.config import CpuConfig
from attngen.codegen.backends.cpu.emit_branch import print_branch
from attngen.codegen.backends.cpu.scope import ELEMENT, Scope, flag
from attngen.codegen.calls.arguments import Arguments, arguments_of
from attngen.codegen.lower.coordinates import names_for
from attngen.codegen.plan import Plan
from attngen.codegen.saved import saved_columns
from attngen.ir.nodes import Concat
from attngen.templates import bundle, render


@dataclass(frozen=True, slots=True)
class ForwardHoles:
    """The holes of forward.cpp.jinja."""

    title: str
    defines: str
    arguments: str
    query_tile: int
    key_tile: int
    group: int
    qk_rows: int
    qk_vectors: int
    pv_rows: int
    pv_vectors: int
    branches: str
    query_rows: str
    n_q: str
    branch_count: int
    width: int
    saved_columns: int
    wants_lse: str
    masked: str
    units: str
    each_branch: str
    element: str


def emit(plan: Plan, config: CpuConfig) -> SourceFile:
    """The whole translation unit, headers included."""
    arguments = arguments_of(plan)
    scope = Scope(plan, arguments)
    dtype = plan.problem.dtype
    holes = ForwardHoles(
        title=f"attngen: forward, {dtype}, {config}",
        defines="#define ATTNGEN_DOUBLE 1" if dtype == "fp64" else "",
        arguments=declaration(arguments),
        query_tile=config.query_tile,
        key_tile=config.key_tile,
        group=config.group,
        qk_rows=config.score_rows,
        qk_vectors=config.score_vectors,
        pv_rows=config.value_rows,
        pv_vectors=config.value_vectors,
        branches="\n".join(print_branches(plan, arguments)),
        query_rows=scope.rows_type("T", plan.order is not None),
        n_q=scope.queries("a."),
        branch_count=len(plan.branches),
        width=plan.width,
        saved_columns=saved_columns(plan),
        wants_lse=flag(plan.problem.return_lse),
        masked=flag(any(keyset.masked for branch in plan.branches for keyset in branch.keysets)),
        units=f"(const int32_t*)a.{arguments.field(names_for(plan.written.spec).units)}_data"
        if plan.written and plan.packed
        else "nullptr",
        each_branch=" ".join(f"f(Branch{i}{{}});" for i in range(len(plan.branches))),
        element=ELEMENT[dtype],
    )
    return SourceFile("forward.cpp", bundle("cpp", render("cpp/forward.cpp.jinja", holes)))


def print_branches(plan: Plan, arguments: Arguments) -> list[str]:
    """The structs of every branch, each with those of its row and key sets."""
    scope = Scope(plan, arguments)
    offset, texts = 0, [scope.boxes()] if plan.order is not None else []
    for i, branch in enumerate(plan.branches):
        texts.append(print_branch(scope, i, branch, offset))
        if isinstance(plan.spec.combine, Concat):
            offset += branch.width
    return texts
