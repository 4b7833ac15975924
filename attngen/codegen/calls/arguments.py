"""The names of everything a kernel is given, in the order in which a launch passes it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from attngen.codegen.plan import Plan

TABLE_PARTS = ("offsets", "begin", "end", "full", "pattern")


@dataclass(frozen=True, slots=True)
class Arguments:
    """Tensors with their ranks, then run-time integers and floats. `tables` are (branch, key set) pairs that read a
    block table."""

    tensors: tuple[tuple[str, int], ...]
    ints: tuple[str, ...]
    floats: tuple[str, ...]
    tables: tuple[tuple[int, int], ...]

    def field(self, name: str) -> str:
        """What an input is called in generated code: its own name may be no identifier there, or one of ours."""
        names = [*(n for n, _ in self.tensors), *self.ints, *self.floats]
        return name if name in ("q", "k", "v") else f"x{names.index(name)}_{re.sub('[^0-9A-Za-z_]', '_', name)}"


def arguments_of(plan: Plan) -> Arguments:
    """The arguments of a plan's kernel."""
    inputs = plan.spec.inputs
    return Arguments(
        tensors=tuple((o.name, o.rank) for o in plan.problem.operands),
        ints=tuple(i.name for i in inputs if not i.axes and i.type != "float"),
        floats=tuple(i.name for i in inputs if not i.axes and i.type == "float"),
        tables=tuple(
            (i, j) for i, branch in enumerate(plan.branches) for j, k in enumerate(branch.keysets) if k.ranges is None
        ),
    )
