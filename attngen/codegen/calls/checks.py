"""Checks of indexed tensors at a launch: indices stay inside, and what lanes compute fits into 32 bits.

What only shapes decide is checked once per set of shapes. What values decide (run-time scalars, integer tensors that
are compared or used as indices) is checked again when they change: on the CPU by value, on a device by a `Guard`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from attngen.codegen.analysis import Arrays
from attngen.codegen.analysis.bounds import Status, check_in_boxes, strays_in_boxes
from attngen.codegen.analysis.deferred import Deferred
from attngen.codegen.backend import Call
from attngen.codegen.calls.arguments import arguments_of
from attngen.codegen.calls.boxes import Boxes, boxes_of
from attngen.codegen.calls.elements import Elements, later
from attngen.codegen.calls.guard import Flags, Guard
from attngen.codegen.calls.lanes import KEYS, check_lanes, lane_bounds
from attngen.codegen.kept import Kept
from attngen.codegen.on_device import OnDevice, waits
from attngen.codegen.pages import check_page_shapes, check_pages, page_flags
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
Group = tuple[list[Expr], Expr | None]
OfValues = Callable[[dict[str, "Tensor"], dict[str, float]], R]
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
        self.device = call.operands[0].device

    def of_call(self) -> Check | None:
        exprs = _expressions(self.plan)
        read = {load.tensor for load in loads(*exprs)}
        deciding = (read & {i.name for i in self.plan.spec.inputs if i.type != "float"}) | _deciding(exprs)
        match self.plan.spec.space:
            case Segments(q_offsets=q, k_offsets=k):
                return self.kept(self.indices, self.flags, deciding | {q, k})
            case Paged() as space:
                views = (v for b in self.plan.branches for v in (b.keysets[0].v, *(d.k for d in b.keysets[0].dots)))
                dense = {v.tensor: self.shapes[v.tensor][self.tokens] for v in views if v.tensor not in ("k", "v")}
                check_page_shapes(space, self.shapes, self.sizes[0], dense)
                return self.of_pages(space, deciding)
            case _ if read:
                return self.kept(self.indices, self.flags, deciding)
        self.indices({}, {})
        return None

    def kept(self, check: OfValues[object], flags: Callable[[dict[str, Any]], Flags], watched: Set[str]) -> Check:
        """The check, made again when a tensor that it watches or a run-time scalar has changed. `flags`: the same, of
        arrays that come later (guard.py)."""
        if not waits(self.device):
            return self.kept_by_value(check, watched)
        inputs = self.names[3:]
        found = [name for name in inputs if name in watched]

        def host(tensors: Sequence[Tensor], numbers: Sequence[float]) -> bool:
            return check(*self.named(found, tensors, numbers)) is not False

        def there(tensors: Sequence[Tensor], numbers: Sequence[float]) -> Flags:
            named, scalars = self.named(found, tensors, numbers)
            return flags({**{name: later(name, t) for name, t in named.items()}, **scalars})

        guard = Guard(found, host, there, self.device)
        return OnDevice(guard, [inputs.index(name) for name in found], range(len(self.scalars)), self.device)

    def kept_by_value(self, check: OfValues[R], watched: Set[str]) -> Kept[R]:
        """The same on the CPU, with what the check gives."""
        inputs = self.names[3:]
        found = [name for name in inputs if name in watched]
        return Kept(
            lambda tensors, numbers: check(*self.named(found, tensors, numbers)),
            [inputs.index(name) for name in found],
            range(len(self.scalars)),
        )

    def named(
        self, names: list[str], tensors: Sequence[Tensor], numbers: Sequence[float]
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Tensors and run-time scalars by name."""
        return dict(zip(names, tensors, strict=True)), dict(zip(self.scalars, numbers, strict=True))

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

        pages = self.kept(right, lambda arrays: page_flags(space, arrays, pools), {space.table, space.lengths})
        now = self.kept(self.indices, self.flags, deciding | {space.lengths})
        # What holds whatever a length is, a device finds without an operation.
        always = None if waits(self.device) else self.kept_by_value(holds, deciding - {space.lengths})

        def check(inputs: Sequence[Tensor], numbers: Sequence[float]) -> None:
            pages(inputs, numbers)
            if always is None or not always(inputs, numbers):
                now(inputs, numbers)

        return check

    def flags(self, values: dict[str, Any]) -> Flags:
        """What `indices` raises for, by bounds of arrays that come later. `values`: with run-time scalars."""
        found: Flags = []
        known = Elements(values)
        for boxes, groups, inside in self.boxes(values):
            extents = {name: boxes.extents(name, shape) for name, shape in self.shapes.items()}
            symbols, data = boxes.symbols(), boxes.loads(known)
            for exprs, where in groups:
                for load, dimension, stray in strays_in_boxes(exprs, extents, symbols, where, data):
                    text = f"index {expr_text(load.indices[dimension])} into {load.tensor}"
                    found.append((stray & boxes.live, f"{text}, dimension {dimension}, may leave the tensor"))
            for expr, where in inside:
                for node, bounds, most in lane_bounds(expr, where, symbols, data, values.keys(), self.varying):
                    wide = ((bounds.lo < -most) & np.isfinite(bounds.lo)) | (
                        (bounds.hi > most) & np.isfinite(bounds.hi)
                    )
                    text = f"{expr_text(node)} may not fit into the 32-bit integers of kernels"
                    found.append((wide & boxes.live, text))
        return [(flag, text) for flag, text in found if isinstance(flag, Deferred) or np.any(flag)]

    def boxes(self, values: dict[str, Any]) -> Iterator[tuple[Boxes, list[Group], list[tuple[Expr, Expr | None]]]]:
        """For each key set that has pairs: its boxes, expressions with the mask under which they are read, and what is
        computed in lanes."""
        for index, branch in enumerate(self.plan.branches):
            for i, keyset in enumerate(branch.keysets):
                boxes = boxes_of(self.plan, keyset, i == 0, self.sizes, self.shapes, self.tokens, values)
                if boxes.empty:
                    continue
                inside = [e for e in (keyset.core, branch.weight) if e is not None]
                rows = _row_expressions(self.plan, index, branch)
                groups: list[Group] = [([keyset.mask], None), (inside, keyset.mask), (rows, None)]
                yield boxes, groups, [(keyset.mask, None), *((e, keyset.mask) for e in inside)]

    def indices(self, tensors: dict[str, Tensor], scalars: dict[str, float]) -> bool:
        """Raises for an index that leaves its tensor, and for an integer that does not fit into a lane. Gives whether
        bounds of what the tensors hold were enough to tell."""
        arrays = {n: (t.float() if str(t.dtype) == "torch.bfloat16" else t).numpy() for n, t in tensors.items()}
        arrays |= {name: np.asarray(value) for name, value in scalars.items()}
        values = {**tensors, **scalars}
        enough = True
        for boxes, groups, inside in self.boxes(arrays):
            for exprs, where in groups:
                enough &= self.bounds(boxes, exprs, where, arrays, values)
            known, data = boxes.symbols(), boxes.loads(Arrays(arrays))
            for expr, where in inside:
                check_lanes(expr, where, known, data, arrays.keys(), self.varying)
        return enough

    def bounds(
        self, boxes: Boxes, exprs: list[Expr], where: Expr | None, arrays: dict[str, Any], values: dict[str, Any]
    ) -> bool:
        """Intervals say too much where terms depend on each other: small cases are evaluated before a refusal."""
        extents = {name: boxes.extents(name, shape) for name, shape in self.shapes.items()}
        data = boxes.loads(Arrays(arrays))
        found = check_in_boxes(exprs, extents, boxes.symbols(), where=where, data=data)
        open_ = [one for one in found if one.status is not Status.PROVEN]
        for wrong in open_:
            if boxes.pairs > MOST_PAIRS or boxes.shorter or symbols(wrong.index) & {"dim", "n_visible"}:
                raise wrong.error(expr_text(wrong.index))
            from attngen.codegen.calls.exact import evaluate_everywhere

            for box in boxes.each(extents, values):
                evaluate_everywhere(exprs, where, box, self.plan.spec)
        return not open_


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
