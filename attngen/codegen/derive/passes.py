"""The normal form of a normalizer: passes over the keys that give a row numbers, perhaps a scan, and a last pass.

Whatever the declaration says comes down to a Streaming declaration whose expressions read, besides their own symbols,
the anchor m[k] and the result r[k] of each earlier pass, and `before` of a scan. All of them are functions of the first
score `s`: what a later pass of a chain calls its score is written out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar, assert_never

from attngen.errors import SpecError
from attngen.ir.expr import SYMBOLS, Expr, const, op, substitute, sym
from attngen.ir.normalizer import Chained, Normalizer, Ordered, Streaming, Threshold
from attngen.ir.signs import never_negative

MOST_PASSES = sum(name.startswith("r[") for name in SYMBOLS)
"""Passes before the last one."""

MOST_FACTORS = 20
"""Whole powers up to this one are products."""


@dataclass(frozen=True, slots=True)
class Sink:
    """The virtual key of a pass: its score, and what it adds to the sum and to the anchor unless its score is -inf."""

    score: Expr
    term: Expr
    anchor: Expr | None


@dataclass(frozen=True, slots=True)
class PassPlan:
    """A pass over the keys before the last one: it gives every row a number r[k], k its place among the passes.

    "sum": r[k] = sum of term(s, m[k]) over the visible keys, where m[k] is the maximum of `anchor` (none, or no key:
    0); without a term the anchor alone is wanted. "root": the r[k] for which the sum of term(s, r[k]), which decreases
    with r[k], is 1; it lies between `low` and `high` (over `count`, the number of visible keys), and the power-th root
    of the sum is nearly linear in r[k]. Terms may read m and r of earlier passes.
    """

    kind: Literal["sum", "root"]
    term: Expr | None
    anchor: Expr | None = None
    decay_rate: float = 0.0
    sink: Sink | None = None
    low: Expr | None = None
    high: Expr | None = None
    power: float = 1.0


@dataclass(frozen=True, slots=True)
class ScanPlan:
    """Keys are visited in order, and `before` is the sum of `keep` over the visible keys visited so far.

    `fades`: `keep` is never positive, so what is too little to count stays so.
    """

    direction: Literal["backward", "forward"]
    keep: Expr
    fades: bool = False


T = TypeVar("T", PassPlan, ScanPlan, Streaming, Sink)


def expressions(part: PassPlan | ScanPlan | Streaming | Sink | None) -> Iterator[Expr]:
    """Every expression of a part."""
    for each in fields(part) if part is not None else ():
        match getattr(part, each.name):
            case Expr() as expr:
                yield expr
            case Sink() as sink:
                yield from expressions(sink)


def mapped(part: T, change: Callable[[Expr], Expr]) -> T:
    """The part with every expression changed."""
    changed: dict[str, Any] = {}
    for each in fields(part):
        match getattr(part, each.name):
            case Expr() as expr:
                changed[each.name] = change(expr)
            case Sink() as sink:
                changed[each.name] = mapped(sink, change)
    return replace(part, **changed)


NormalForm = tuple[tuple[PassPlan, ...], ScanPlan | None, Streaming]


def normal_form(normalizer: Normalizer, shift_rate: Callable[[Streaming], float]) -> NormalForm:
    """(passes, scan, last). `shift_rate` proves the shift law of a declaration and gives its rate."""
    match normalizer:
        case Streaming():
            return (), None, normalizer
        case Chained():
            return _chained(normalizer, shift_rate)
        case Threshold():
            return _threshold(normalizer)
        case Ordered(name=name, direction=direction, weight=weight, log_keep=keep):
            last = Streaming(name, phi=op("mul", weight, op("exp", sym("before"))), finalize=sym("acc"))
            return (), ScanPlan(direction, keep, never_negative(op("neg", keep))), last
        case _:
            assert_never(normalizer)


def last_declared(normalizer: Normalizer) -> Streaming | None:
    """The last pass as it was declared, over its own score."""
    match normalizer:
        case Streaming():
            return normalizer
        case Chained(passes=passes):
            return passes[-1]
        case _:
            return None


def _chained(chain: Chained, shift_rate: Callable[[Streaming], float]) -> NormalForm:
    if len(chain.passes) > MOST_PASSES + 1:
        raise SpecError(f"normalizer {chain.name!r}: {len(chain.passes)} passes; a kernel has up to {MOST_PASSES + 1}")
    score: Expr = sym("s")
    passes: list[PassPlan] = []
    for k, each in enumerate(chain.passes[:-1]):
        top = sym(f"m[{k}]")
        own: dict[str, Expr] = {"m": top if not each.offset else op("add", top, each.offset)}
        assert each.psi is not None  # verified: it gives the next scores
        passes.append(
            PassPlan(
                "sum",
                term=substitute(each.psi, own | {"s": score}),
                anchor=None if each.anchor is None else substitute(each.anchor, {"s": score}),
                decay_rate=shift_rate(each),
                sink=sink_of(each, own),
            )
        )
        score = op("safe_div", substitute(each.phi, own | {"s": score}), sym(f"r[{k}]"))
    last = chain.passes[-1]
    parts = {"phi": last.phi, "psi": last.psi, "anchor": last.anchor}
    written = {name: substitute(e, {"s": score}) for name, e in parts.items() if e is not None}
    return tuple(passes), None, replace(last, name=chain.name, **written)  # type: ignore[arg-type]


def sink_of(declared: Streaming, own: Mapping[str, Expr] | None = None) -> Sink | None:
    """What the sink of a declaration adds: it meets the pass as declared, whatever the keys' own scores are made of."""
    if declared.sink is None or declared.psi is None:
        return None
    at = {"s": declared.sink}
    anchor = None if declared.anchor is None else substitute(declared.anchor, at)
    return Sink(declared.sink, substitute(declared.psi, {**(own or {}), **at}), anchor)


def _threshold(node: Threshold) -> NormalForm:
    """The maximum, then tau relative to the scaled maximum, then weights.

    The largest key alone has a weight of at least 1 at tau = -1; n keys have at most 1 / n each at -n ** (1 - alpha).
    """
    rate = node.alpha - 1.0
    weight = _power(op("sub", _times(rate, op("sub", sym("s"), sym("m[0]"))), sym("r[1]")), 1.0 / rate)
    passes = (
        PassPlan("sum", term=None, anchor=sym("s")),
        PassPlan(
            "root",
            term=weight,
            low=const(-1.0),
            high=op("neg", op("pow", op("maximum", sym("count"), 1.0), -rate)),
            power=1.0 / rate,
        ),
    )
    return passes, None, Streaming(node.name, phi=weight, finalize=sym("acc"))


def _product(x: Expr, count: int) -> Expr:
    if count == 1:
        return x
    half = _product(x, count // 2)
    twice = op("mul", half, half)
    return op("mul", twice, x) if count % 2 else twice


def _times(factor: float, expr: Expr) -> Expr:
    return expr if factor == 1.0 else op("mul", expr, factor)


def _power(x: Expr, power: float) -> Expr:
    """relu(x) ** power, such that a NaN stays one, and its derivative is 0 where x is negative, whatever the power."""
    whole = round(power)
    if 0 < whole <= MOST_FACTORS and abs(power - whole) < 1e-9:
        return _product(op("relu", x), whole)
    inside = op("sqrt", x) if power == 0.5 else op("exp", op("mul", op("log", x), power))
    return op("where", op("le", x, 0.0), 0.0, inside)
