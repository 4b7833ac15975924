"""Checks of indexed tensors at a launch: indices stay inside, and what lanes compute fits into 32 bits.

What only shapes decide is checked once per set of shapes. What values decide (run-time scalars, integer tensors that
are compared or used as indices) is checked again when they change, by value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attngen.codegen.analysis import Arrays, Evaluator, Sizes, Tiles
from attngen.codegen.analysis.bounds import IndexCheck, Status, assumptions, check_indices
from attngen.codegen.analysis.tiles import evaluator
from attngen.codegen.backend import Call
from attngen.codegen.backends.cpu.abi import abi_of
from attngen.codegen.plan import BranchPlan, Plan
from attngen.codegen.printers.cpp import COMPARISON
from attngen.errors import UnsupportedError
from attngen.ir.expr import Expr, Load, Op, loads, op, postorder, rebuild, substitute, sym, symbols
from attngen.ir.nodes import Affine
from attngen.ir.normalizer import Streaming
from attngen.ir.text_expr import expr_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

MOST_PAIRS = 1 << 22
"""Pairs (query, key) up to which an index that the analysis cannot bound is evaluated everywhere."""

LANE, CAST = 2**31 - 2, 2**30
"""The largest integer of a lane (one more stands for all that is larger), and the largest that a cast gives."""

SATURATING = frozenset({*COMPARISON, "minimum", "maximum", "floordiv"})
KEYS = frozenset({"kv", "kv[0]", "kv[1]", "kv[2]"})
Check = Callable[["Sequence[Tensor]", "Sequence[float]"], None]


def input_checks(plan: Plan, call: Call) -> Check | None:
    """None where nothing has to be checked per call. Raises `BoundsError` at once for what shapes alone decide."""
    abi = abi_of(plan)
    names = [name for name, _ in abi.tensors]
    # Shapes, not tensors: a prepared launch outlives the call that it was made for.
    shapes = {name: tuple(tensor.shape) for name, tensor in zip(names, call.operands, strict=True)}
    sizes = _Sizes(call.n_b, call.n_h, call.n_q, 1 if call.layout == "bnhd" else 2)
    read = {load.tensor for load in loads(*_expressions(plan))}
    if not read:
        _check(plan, sizes, shapes, {}, {})
        return None
    integral = {i.name for i in plan.spec.inputs if i.type != "float"}
    watched = {n: i for i, n in enumerate(names[3:]) if n in (read & integral) | _deciding(_expressions(plan))}
    scalars = [*abi.ints, *abi.floats]
    last: list[Any] = [None]

    def check(inputs: Sequence[Tensor], values: Sequence[float]) -> None:
        import torch

        now = tuple(values), [inputs[i] for i in watched.values()]
        seen = last[0]  # replaced in one step: other threads may be at it
        if seen is not None and seen[0] == now[0] and all(map(torch.equal, seen[1], now[1])):
            return
        copies = [t.detach().clone() for t in now[1]]
        given = dict(zip(watched, copies, strict=True))
        _check(plan, sizes, shapes, given, dict(zip(scalars, values, strict=True)))
        last[0] = (now[0], copies)

    return check


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Batches, heads, queries, and which axis of an operand counts its tokens."""

    n_b: int
    n_h: int
    n_q: int
    tokens: int


def _expressions(plan: Plan) -> list[Expr]:
    keysets = [keyset for branch in plan.branches for keyset in branch.keysets]
    found = [e for k in keysets for e in (k.mask, k.core)] + [b.weight for b in plan.branches if b.weight is not None]
    return found + [e for i, branch in enumerate(plan.branches) for e in _row_expressions(plan, i, branch)]


def _row_expressions(plan: Plan, index: int, branch: BranchPlan) -> list[Expr]:
    """What is computed for every row, visible keys or not; `dim` within the width of the branch."""
    normalizer = branch.normalizer
    assert isinstance(normalizer, Streaming)
    parts = (normalizer.sink, normalizer.phi, normalizer.psi, normalizer.anchor, normalizer.finalize, normalizer.lse)
    found = [e for e in parts if e is not None] + [keyset.alpha for keyset in branch.keysets]
    if isinstance(plan.spec.combine, Affine):
        found.append(plan.spec.combine.coefficients[index])
    inside = op("minimum", op("maximum", sym("dim"), 0), branch.width - 1)
    return [substitute(e, {"dim": inside}) for e in found]


def _deciding(exprs: list[Expr]) -> set[str]:
    """Tensors whose values decide an index or become an integer."""
    roots = [i for load in loads(*exprs) for i in load.indices]
    roots += [n for n in postorder(*exprs) if isinstance(n, Op) and n.name == "to_int"]
    return {load.tensor for load in loads(*roots)}


def _check(
    plan: Plan,
    call: _Sizes,
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, float],
) -> None:
    arrays = {n: (t.float() if str(t.dtype) == "torch.bfloat16" else t).numpy() for n, t in tensors.items()}
    data = Arrays(arrays | {name: np.asarray(value) for name, value in scalars.items()})
    extents = {name: _extents(plan, call, name, shape) for name, shape in shapes.items()}
    for index, branch in enumerate(plan.branches):
        for keyset in branch.keysets:
            sizes = Sizes(call.n_q, shapes[keyset.v.tensor][call.tokens], call.n_b, call.n_h)
            if min(sizes.n_q, sizes.n_k, sizes.n_b, sizes.n_h) < 1:
                continue
            inside = [e for e in (keyset.core, branch.weight) if e is not None]
            rows = _row_expressions(plan, index, branch)
            for exprs, where in (([keyset.mask], None), (inside, keyset.mask), (rows, None)):
                for found in check_indices(exprs, extents, sizes, plan.spec.space, where=where, data=data):
                    if found.status is not Status.PROVEN:
                        values = {**tensors, **scalars}
                        _look_closer(plan, exprs, where, sizes, extents, values, found)
            _check_lanes(plan, keyset.mask, None, sizes, data)
            for expr in inside:
                _check_lanes(plan, expr, keyset.mask, sizes, data)


def _look_closer(
    plan: Plan,
    exprs: list[Expr],
    where: Expr | None,
    sizes: Sizes,
    extents: Mapping[str, tuple[int, ...]],
    values: Mapping[str, Any],
    found: IndexCheck,
) -> None:
    """Intervals say too much where terms depend on each other: evaluate small cases exactly before refusing."""
    if sizes.n_q * sizes.n_k > MOST_PAIRS or "dim" in symbols(found.index):
        raise found.error(expr_text(found.index))
    from attngen.codegen.backends.cpu.exact import evaluate_everywhere

    evaluate_everywhere(exprs, where, sizes, plan.spec, extents, values)


def _lane_integers(expr: Expr) -> Iterator[Expr]:
    """The integers that lanes hold: what depends on the key, and what is joined with that where it cannot saturate."""
    for node in postorder(expr):
        if not symbols(node) & KEYS:
            continue
        if node.type == "int":
            yield node
        if isinstance(node, Op) and node.name not in SATURATING:
            yield from (a for a in node.args if a.type == "int" and not symbols(a) & KEYS)


def _saturated(node: Expr) -> Expr | None:
    """Casts in lanes saturate, so that an infinity on a path that is not taken stays small."""
    if not isinstance(node, Op) or node.name != "to_int" or node.args[0].type != "float":
        return None
    return op("to_int", op("minimum", op("maximum", node.args[0], float(-CAST)), float(CAST)), source=node.source)


def _cast_of(node: Expr) -> Expr | None:
    """What a cast that `_saturated` made was written of."""
    match node:
        case Op(name="to_int", args=(Op(name="minimum", args=(Op(name="maximum", args=(inner, _)), _)),)):
            return inner
        case _:
            return None


def _check_lanes(plan: Plan, expr: Expr, where: Expr | None, sizes: Sizes, data: Arrays) -> None:
    whole = evaluator(plan.spec.space, Tiles((0, sizes.n_q - 1), (0, sizes.n_k - 1)), sizes, data)
    values = Evaluator(whole.symbols, data, [] if where is None else assumptions(where))
    known = set(whole.symbols)
    for node in _lane_integers(rebuild(expr, _saturated)):
        if not symbols(node) <= known:
            continue
        if isinstance(node, Load) and node.tensor not in data.arrays:
            continue
        cast = _cast_of(node)
        bounds = values.number(node if cast is None else cast)
        lo, hi = float(np.min(bounds.lo)), float(np.max(bounds.hi))
        most = LANE if cast is None else CAST
        if -np.inf < lo < -most or most < hi < np.inf:
            raise UnsupportedError(
                f"{expr_text(node)} can reach {lo:.0f} .. {hi:.0f}, which does not fit into the 32-bit integers of "
                "the CPU kernel; keep integers that depend on the key smaller, or use backend='reference'",
                source=node.source,
            )


def _extents(plan: Plan, call: _Sizes, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape, with an axis that has one entry for all batches or heads as long as they are."""
    declared = plan.spec.input(name)
    if declared is None:
        return shape
    most = {"b": call.n_b, "h": call.n_h}
    return tuple(most.get(axis, n) if n == 1 else n for axis, n in zip(declared.axes, shape, strict=True))
