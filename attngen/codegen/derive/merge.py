"""The merge of two parts of a row: what is known of the keys of both, from what is known of the keys of each.

By the shift law, sums taken at anchor m_a are worth exp(k (m_a - m)) of sums at anchor m. So a row may be cut anywhere,
its parts be computed apart, and be merged in any order: merging is associative and commutative, and an empty part
changes nothing. An ordered normalizer is different: its parts are merged in the order in which its keys are visited.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

from attngen.codegen.derive.laws import shift_rate
from attngen.ir.expr import Expr, const, op, substitute, symbols
from attngen.ir.normalizer import Ordered, Streaming

ZERO, ONE = const(0.0), const(1.0)
EMPTY_ANCHOR = const(-math.inf)
"""The maximum over no keys."""


@dataclass(frozen=True, slots=True)
class State:
    """What is known of some keys of a row, as expressions; None: the normalizer does not need it.

    `m` is the maximum of the anchor, plus the offset. `acc` is sum phi V and `vsum` sum V, of the width of the values;
    `mass` is sum psi, and `count` the number of keys.
    """

    acc: Expr
    mass: Expr | None = None
    m: Expr | None = None
    count: Expr | None = None
    vsum: Expr | None = None


@dataclass(frozen=True, slots=True)
class OrderedState:
    """What is known of consecutive keys: the sum of their weights times V, and the logarithm of what they keep."""

    acc: Expr
    kept: Expr


def empty(node: Streaming) -> State:
    """No keys."""
    return _needed(node, State(acc=ZERO, mass=ZERO, m=EMPTY_ANCHOR, count=ZERO, vsum=ZERO))


def one_key(node: Streaming, v: Expr) -> State:
    """One key with the score `s` and an element `v` of its value."""
    m = ZERO if node.anchor is None else op("add", node.anchor, node.offset)
    phi, psi = (None if e is None else substitute(e, {"m": m}) for e in (node.phi, node.psi))
    assert phi is not None
    return _needed(node, State(acc=op("mul", phi, v), mass=psi, m=m, count=ONE, vsum=v))


def sink(node: Streaming) -> State | None:
    """The virtual key, which enters a row once, in one of its parts; None: there is none. At -inf it is no key."""
    if node.sink is None:
        return None
    score, nothing = node.sink, empty(node)
    closed = op("eq", score, -math.inf)

    def at_sink(name: str) -> Expr | None:
        value, absent = getattr(one_key(node, ZERO), name), getattr(nothing, name)
        return None if value is None else op("where", closed, absent, substitute(value, {"s": score}))

    return replace(nothing, mass=at_sink("mass"), m=at_sink("m"))


def merge(node: Streaming, a: State, b: State) -> State:
    """The keys of both parts. Raises `SpecError` where no law allows it."""
    k = shift_rate(node)
    m: Expr | None = None
    factors: tuple[Expr, Expr] = (ONE, ONE)
    if a.m is not None and b.m is not None:
        m = op("maximum", a.m, b.m)
        factors = _factor(k, a.m, m), _factor(k, b.m, m)

    def added(name: str, scaled: bool) -> Expr | None:
        one, other = getattr(a, name), getattr(b, name)
        if one is None or other is None:
            return None
        return op("add", *(_times(f, x) if scaled else x for f, x in zip(factors, (one, other), strict=True)))

    acc = added("acc", True)
    assert acc is not None
    return State(acc, added("mass", True), m, added("count", False), added("vsum", False))


def finished(node: Streaming, state: State) -> Expr:
    """The result of a row that sees a key, from the state of all its keys."""
    known = {f.name: getattr(state, f.name) for f in fields(state)}
    return substitute(node.finalize, {name: value for name, value in known.items() if value is not None})


def empty_ordered() -> OrderedState:
    """No keys."""
    return OrderedState(ZERO, ZERO)


def one_key_ordered(node: Ordered, v: Expr) -> OrderedState:
    """One key with the score `s` and an element `v` of its value."""
    return OrderedState(op("mul", node.weight, v), node.log_keep)


def merge_ordered(first: OrderedState, then: OrderedState) -> OrderedState:
    """The keys of both parts, where those of `first` are visited first."""
    return OrderedState(
        op("add", first.acc, op("mul", op("exp", first.kept), then.acc)), op("add", first.kept, then.kept)
    )


def _factor(k: float, own: Expr, m: Expr) -> Expr:
    """What sums at the own anchor are worth at m. The part with the larger one keeps its sums, and so do empty ones."""
    distance = op("sub", own, m)
    if k == 0:
        return ONE
    return op("where", op("eq", own, m), ONE, op("exp", distance if k == 1 else op("mul", k, distance)))


def _times(factor: Expr, value: Expr) -> Expr:
    return value if factor == ONE else op("mul", factor, value)


def _needed(node: Streaming, state: State) -> State:
    """The state without what the normalizer does not have, or does not ask for."""
    used = symbols(node.finalize, node.lse)
    return replace(
        state,
        mass=state.mass if node.psi is not None else None,
        m=state.m if node.anchor is not None else None,
        count=state.count if "count" in used else None,
        vsum=state.vsum if "vsum" in used else None,
    )
