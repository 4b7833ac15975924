"""The CPU source of a backward: the forward's structs, and those that derivation adds."""

from __future__ import annotations

from dataclasses import dataclass

from attngen.codegen.backend import SourceFile
from attngen.codegen.backends.cpu.abi import declaration
from attngen.codegen.backends.cpu.config import CpuConfig
from attngen.codegen.backends.cpu.emit import print_branches
from attngen.codegen.backends.cpu.emit_gradient import print_gradient
from attngen.codegen.backends.cpu.scope import ELEMENT, Scope
from attngen.codegen.calls.arguments import Arguments, arguments_of
from attngen.codegen.plan import Plan
from attngen.codegen.saved import saved_columns
from attngen.codegen.targets import targets_of
from attngen.ir.walk import views
from attngen.templates import bundle, render


@dataclass(frozen=True, slots=True)
class BackwardHoles:
    """The holes of backward.cpp.jinja."""

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
    each_gradient: str
    element: str
    columns: int


def emit_backward(plan: Plan, config: CpuConfig, wanted: frozenset[str]) -> SourceFile:
    """The whole translation unit, headers included."""
    arguments = arguments_of(plan)
    dtype = plan.problem.dtype
    scope = Scope(plan, arguments)
    gradients = [print_gradient(scope, i, branch, wanted) for i, branch in enumerate(plan.branches)]
    holes = BackwardHoles(
        title=f"attngen: backward, {dtype}, {config}",
        defines="#define ATTNGEN_DOUBLE 1" if dtype == "fp64" else "",
        arguments="\n".join([declaration(arguments), _gradient_members(plan, arguments, wanted)]),
        query_tile=config.query_tile,
        key_tile=config.key_tile,
        group=config.group,
        qk_rows=config.score_rows,
        qk_vectors=config.score_vectors,
        pv_rows=config.value_rows,
        pv_vectors=config.value_vectors,
        branches="\n".join([*print_branches(plan, arguments), *gradients]),
        query_rows=scope.rows_type("T", plan.order is not None),
        n_q=scope.queries("a."),
        each_gradient=" ".join(f"f(Gradient{i}{{}});" for i in range(len(plan.branches))),
        element=ELEMENT[dtype],
        columns=saved_columns(plan),
    )
    return SourceFile("backward.cpp", bundle("cpp", render("cpp/backward.cpp.jinja", holes)))


def viewed(plan: Plan) -> tuple[str, ...]:
    """The operands that views read, in the order of the launch: each has a total for its gradient."""
    names = {view.tensor for view in views(plan.spec)}
    return tuple(o.name for o in plan.problem.operands if o.name in names)


def _gradient_members(plan: Plan, arguments: Arguments, wanted: frozenset[str]) -> str:
    """The members that the backward adds to the argument block."""
    lines = ["  const void* dout_data;", "  const void* dlse_data;", "  int64_t dout_stride[4];"]
    lines += [
        f"  void* d_{arguments.field(n)}_data;\n  int64_t d_{arguments.field(n)}_stride[4];" for n in viewed(plan)
    ]
    for i in range(len(plan.branches)):
        lines.append(f"  Target targets_{i}[{max(1, len(targets_of(plan, i, wanted)))}];")
    return "\n".join(lines)
