"""Checks of indexed tensors at a launch: indices stay inside, and what lanes compute fits into 32 bits.

What only shapes decide is checked once per set of shapes. What values decide (run-time scalars, integer tensors that
are compared or used as indices) is checked again when they change, by value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attngen.codegen.analysis import Arrays, Evaluator, Sizes, Tiles
from attngen.codegen.analysis.bounds import IndexCheck, Status, assumptions, check_indices
from attngen.codegen.analysis.tiles import evaluator
from attngen.codegen.backend import Call
from attngen.codegen.backends.cpu.abi import abi_of
from attngen.codegen.plan import KeySetPlan, Plan
from attngen.errors import UnsupportedError
from attngen.ir.expr import Expr, Load, Op, loads, op, postorder, rebuild, symbols
from attngen.ir.normalizer import Streaming
from attngen.ir.text_expr import expr_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

MOST_PAIRS = 1 << 22
"""Pairs (query, key) up to which an index that the analysis cannot bound is evaluated everywhere."""

LANE, CAST = 2**31 - 1, 2**30
"""The largest integer of a lane, and the largest that a cast gives."""

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
    watched = {name: i for i, name in enumerate(names[3:]) if name in read & integral}
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
    found: list[Expr] = []
    for branch in plan.branches:
        normalizer = branch.normalizer
        assert isinstance(normalizer, Streaming)
        for keyset in branch.keysets:
            found += [keyset.mask, keyset.core, keyset.alpha]
        found += [e for e in (branch.weight, normalizer.sink, normalizer.phi, normalizer.psi) if e is not None]
    return found


def _check(
    plan: Plan,
    call: _Sizes,
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, float],
) -> None:
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    data = Arrays(arrays | {name: np.asarray(value) for name, value in scalars.items()})
    extents = {name: _extents(plan, call, name, shape) for name, shape in shapes.items()}
    for branch in plan.branches:
        for keyset in branch.keysets:
            sizes = Sizes(call.n_q, shapes[keyset.v.tensor][call.tokens], call.n_b, call.n_h)
            if min(sizes.n_q, sizes.n_k, sizes.n_b, sizes.n_h) < 1:
                continue
            inside = [e for e in (keyset.core, branch.weight) if e is not None]
            for exprs, where in (([keyset.mask], None), (inside, keyset.mask)):
                for found in check_indices(exprs, extents, sizes, plan.spec.space, where=where, data=data):
                    if found.status is not Status.PROVEN:
                        values = {**tensors, **scalars}
                        _look_closer(plan, exprs, where, sizes, extents, values, found)
            _check_lanes(plan, keyset, [keyset.mask, *inside], sizes, data)


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
    if sizes.n_q * sizes.n_k > MOST_PAIRS:
        raise found.error(expr_text(found.index))
    from attngen.codegen.backends.cpu.exact import evaluate_everywhere

    evaluate_everywhere(exprs, where, sizes, plan.spec, extents, values)


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


def _check_lanes(plan: Plan, keyset: KeySetPlan, exprs: list[Expr], sizes: Sizes, data: Arrays) -> None:
    whole = evaluator(plan.spec.space, Tiles((0, sizes.n_q - 1), (0, sizes.n_k - 1)), sizes, data)
    values = Evaluator(whole.symbols, data, assumptions(keyset.mask))
    known = set(whole.symbols)
    for node in postorder(*(rebuild(e, _saturated) for e in exprs)):
        used = symbols(node)
        if node.type != "int" or not used & KEYS or not used <= known:
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
