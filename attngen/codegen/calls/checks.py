"""Checks of indexed tensors at a launch: indices stay inside, and what lanes compute fits into 32 bits.

What only shapes decide is checked once per set of shapes. What values decide (run-time scalars, integer tensors that
are compared or used as indices) is checked again when they change, by value.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from attngen.codegen.analysis.bounds import Status, check_in_boxes
from attngen.codegen.backend import Call
from attngen.codegen.calls.arguments import arguments_of
from attngen.codegen.calls.boxes import Boxes, boxes_of
from attngen.codegen.calls.lanes import KEYS, check_lanes
from attngen.codegen.kept import Kept
from attngen.codegen.pages import check_page_shapes, check_pages
from attngen.codegen.plan import BranchPlan, Plan
from attngen.errors import AttngenError
from attngen.ir.expr import Expr, Op, loads, op, postorder, substitute, sym, symbols
from attngen.ir.nodes import Affine, Paged, Segments
from attngen.ir.text_expr import expr_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

MOST_PAIRS = 1 << 22
"""Pairs (query, key) up to which an index that the analysis cannot bound is evaluated everywhere."""

R = TypeVar("R")
Check = Callable[["Sequence[Tensor]", "Sequence[float]"], object]


def input_checks(plan: Plan, call: Call, varying: Set[str] = KEYS) -> Check | None:
    """None where nothing has to be checked per call. Raises `BoundsError` at once for what shapes alone decide.

    `varying`: the symbols whose integers a kernel holds in 32 bits.
    """
    # What a plan was lowered to says the same in words that are not the user's.
    return _Checks(plan.written or plan, call, varying).of_call()


class _Checks:
    """The checks of calls of one set of shapes. Shapes, not tensors: a prepared launch outlives its first call."""

    def __init__(self, plan: Plan, call: Call, varying: Set[str]) -> None:
        self.varying = varying
        arguments = arguments_of(plan)
        self.plan = plan
        self.sizes = (call.n_b, call.n_h, call.n_q)
        self.tokens = 1 if call.layout == "bnhd" else 2
        self.names = [name for name, _ in arguments.tensors]
        self.scalars = (*arguments.ints, *arguments.floats)
        self.shapes = {name: tuple(t.shape) for name, t in zip(self.names, call.operands, strict=False)}
        for router in plan.spec.routers:
            blocks = (-(-call.n_q // router.query_block), -(-call.n_k // router.key_block))
            self.shapes[router.name] = (call.n_b, call.n_h, *blocks)

    def of_call(self) -> Check | None:
        exprs = _expressions(self.plan)
        read = {load.tensor for load in loads(*exprs)}
        deciding = (read & {i.name for i in self.plan.spec.inputs if i.type != "float"}) | _deciding(exprs)
        match self.plan.spec.space:
            case Segments(q_offsets=q, k_offsets=k):
                return self.kept(self.indices, deciding | {q, k})
            case Paged() as space:
                views = (v for b in self.plan.branches for v in (b.keysets[0].v, *(d.k for d in b.keysets[0].dots)))
                dense = {v.tensor: self.shapes[v.tensor][self.tokens] for v in views if v.tensor not in ("k", "v")}
                check_page_shapes(space, self.shapes, self.sizes[0], dense)
                return self.of_pages(space, deciding)
            case _ if read:
                return self.kept(self.indices, deciding)
        self.indices({}, {})
        return None

    def kept(self, check: Callable[[dict[str, Tensor], dict[str, float]], R], watched: Set[str]) -> Kept[R]:
        """The check, made again when a tensor that it watches or a run-time scalar has another value."""
        inputs = self.names[3:]
        found = [name for name in inputs if name in watched]

        def run(tensors: Sequence[Tensor], numbers: Sequence[float]) -> R:
            return check(dict(zip(found, tensors, strict=True)), dict(zip(self.scalars, numbers, strict=True)))

        return Kept(run, [inputs.index(name) for name in found], range(len(self.scalars)))

    def of_pages(self, space: Paged, deciding: set[str]) -> Check:
        """Lengths change with every token that is decoded: what holds for all of them is checked once."""
        pools = {name: self.shapes[name][0] for name in ("k", "v")}

        def right(tensors: dict[str, Tensor], numbers: dict[str, float]) -> None:
            check_pages(space, tensors[space.table].numpy(), tensors[space.lengths].numpy(), pools)

        def holds(tensors: dict[str, Tensor], numbers: dict[str, float]) -> bool:
            try:
                self.indices(tensors, numbers)
            except AttngenError:
                return False
            return True

        pages = self.kept(right, {space.table, space.lengths})
        always = self.kept(holds, deciding - {space.lengths})
        now = self.kept(self.indices, deciding | {space.lengths})

        def check(inputs: Sequence[Tensor], numbers: Sequence[float]) -> None:
            pages(inputs, numbers)
            if not always(inputs, numbers):
                now(inputs, numbers)

        return check

    def indices(self, tensors: dict[str, Tensor], scalars: dict[str, float]) -> None:
        """Raises for an index that leaves its tensor, and for an integer that does not fit into a lane."""
        arrays = {n: (t.float() if str(t.dtype) == "torch.bfloat16" else t).numpy() for n, t in tensors.items()}
        arrays |= {name: np.asarray(value) for name, value in scalars.items()}
        values = {**tensors, **scalars}
        for index, branch in enumerate(self.plan.branches):
            for i, keyset in enumerate(branch.keysets):
                boxes = boxes_of(self.plan, keyset, i == 0, self.sizes, self.shapes, self.tokens, arrays)
                if boxes.empty:
                    continue
                inside = [e for e in (keyset.core, branch.weight) if e is not None]
                rows = _row_expressions(self.plan, index, branch)
                for exprs, where in (([keyset.mask], None), (inside, keyset.mask), (rows, None)):
                    self.bounds(boxes, exprs, where, arrays, values)
                known, data = boxes.symbols(), boxes.loads(arrays)
                check_lanes(keyset.mask, None, known, data, arrays.keys(), self.varying)
                for expr in inside:
                    check_lanes(expr, keyset.mask, known, data, arrays.keys(), self.varying)

    def bounds(
        self, boxes: Boxes, exprs: list[Expr], where: Expr | None, arrays: dict[str, Any], values: dict[str, Any]
    ) -> None:
        """Intervals say too much where terms depend on each other: small cases are evaluated before a refusal."""
        extents = {name: boxes.extents(name, shape) for name, shape in self.shapes.items()}
        data = boxes.loads(arrays)
        found = check_in_boxes(exprs, extents, boxes.symbols(), where=where, data=data)
        for wrong in (one for one in found if one.status is not Status.PROVEN):
            if boxes.pairs > MOST_PAIRS or boxes.shorter or symbols(wrong.index) & {"dim", "n_visible"}:
                raise wrong.error(expr_text(wrong.index))
            from attngen.codegen.calls.exact import evaluate_everywhere

            for box in boxes.each(extents, values):
                evaluate_everywhere(exprs, where, box, self.plan.spec)


def _expressions(plan: Plan) -> list[Expr]:
    keysets = [keyset for branch in plan.branches for keyset in branch.keysets]
    found = [e for k in keysets for e in (k.mask, k.core)] + [b.weight for b in plan.branches if b.weight is not None]
    return found + [e for i, branch in enumerate(plan.branches) for e in _row_expressions(plan, i, branch)]


def _row_expressions(plan: Plan, index: int, branch: BranchPlan) -> list[Expr]:
    """What is computed for every row, visible keys or not; `dim` within the width of the branch."""
    found = [*branch.row_expressions(), *(keyset.alpha for keyset in branch.keysets)]
    if isinstance(plan.spec.combine, Affine):
        found.append(plan.spec.combine.coefficients[index])
    inside = op("minimum", op("maximum", sym("dim"), 0), branch.width - 1)
    return [substitute(e, {"dim": inside}) for e in found]


def _deciding(exprs: list[Expr]) -> set[str]:
    """Tensors whose values decide an index or become an integer."""
    roots = [i for load in loads(*exprs) for i in load.indices]
    roots += [n for n in postorder(*exprs) if isinstance(n, Op) and n.name == "to_int"]
    return {load.tensor for load in loads(*roots)}
