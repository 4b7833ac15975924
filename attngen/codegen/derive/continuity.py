"""Where an expression jumps, or has an infinite slope: places that a gradient cannot see, or cannot survive.

What can go wrong goes wrong where a condition switches, an argument of abs, relu, log or a root reaches zero, a floor
steps on. These places are found by bisection, to the last digit, and the expression is looked at on both sides of each.
A jump is reported only where it stays as one comes nearer; kinks are none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from attngen.codegen.derive.gradient import derivative
from attngen.codegen.derive.points import Setting, literals, pinned, settings, shown, values
from attngen.codegen.derive.smooth import is_smooth
from attngen.ir.expr import Expr, Op, const, op, postorder, sym, symbols
from attngen.ir.signs import Spans
from attngen.ir.span import Span

if TYPE_CHECKING:
    from torch import Tensor

STEPS = (
    "floor",
    "ceil",
    "round",
    "to_int",
    "floordiv",
    "sign",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bit_not",
    "shl",
    "shr",
)
NEAR = (1e-4, 1e-6, 1e-8, 1e-10)
"""Distances from a place, relative to its size, at which the expression is looked at."""
RELATIVE = 1e-6
"""A jump smaller than this, next to the values around it, is rounding of a literal."""
WIDE, TINY = 12, 1e-40
MOST_PLACES, MOST_FAULTS, MOST_LITERALS = 200, 12, 20


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at a value of the variable, in words that follow the name of the expression."""

    at: float
    words: str
    jump: bool = False


def faults(
    expr: Expr, name: str, given: Spans, numbers: Mapping[str, float], fixed: Mapping[str, float]
) -> list[Fault]:
    """The places where the expression is not fit for a gradient in the variable `name`, those nearest to 0 first.

    `given` holds the span of the variable. `numbers` are captured numbers as they are now, `fixed` other variables.
    """
    if is_smooth(expr, name, given):
        return []
    span = given.get(sym(name), Span())
    for other, value in fixed.items():
        expr = pinned(expr, Setting({sym(other): const(value)}))
    if name not in symbols(expr):
        return []
    found: dict[float, Fault] = {}
    chosen = settings((expr,), (name,), numbers, signed=False)
    if not chosen:
        return [Fault(0.0, f"reads a table at an index that depends on {name}, so it is constant in pieces")]
    for setting in chosen:
        for fault in _faults(pinned(expr, setting), name, span, setting):
            found.setdefault(fault.at, fault)
    return sorted(found.values(), key=lambda fault: (abs(fault.at), -fault.at))


def _faults(expr: Expr, name: str, span: Span, setting: Setting) -> Iterator[Fault]:
    if name not in symbols(expr):
        return
    grid = _grid(expr, span)
    undefined = _undefined(expr, name, grid)
    if undefined is not None:
        yield Fault(undefined, f"is not a number at {name} = {shown(undefined)}{setting}")
        return
    found = 0
    for place in sorted(_places(expr, name, grid), key=abs)[:MOST_PLACES]:
        words, jump = _look(expr, name, place, span)
        if words:
            yield Fault(place, words.replace("@", f"{name} = {shown(place)}") + str(setting), jump)
            found += 1
        if found == MOST_FAULTS:
            return


def _grid(expr: Expr, span: Span) -> Tensor:
    """Values of the variable: evenly spaced, near zero and far away, at sums of literals and between those."""
    import torch

    written = [0.0, *literals((expr,))][:MOST_LITERALS]
    sums = sorted({a + sign * b for a in written for b in written for sign in (1, -1)} | {-c for c in written})
    between = [(a + b) / 2 for a, b in pairwise(sums)]
    wide = [10.0**power for power in range(-12, 6)]
    even = [i / 64 for i in range(-WIDE * 64, WIDE * 64 + 1)]
    every = {*sums, *between, *wide, *(-x for x in wide), *even}
    kept = [x for x in every if span.low <= x <= span.high and not (x == span.low and span.low_open)]
    return torch.tensor(sorted(kept), dtype=torch.float64)


def _undefined(expr: Expr, name: str, grid: Tensor) -> float | None:
    """A value of the variable in a stretch where the expression is not a number."""
    near = grid[grid.abs() <= 10]
    bad = values(expr, **{name: near}).isnan()
    stretch = bad[1:-1] & bad[2:] & bad[:-2]
    if not bool(stretch.any()):
        return None
    candidates = near[1:-1][stretch]
    whole = candidates[candidates == candidates.round()]
    best = whole if len(whole) else candidates
    return float(best[best.abs().argmin()])


def _places(expr: Expr, name: str, grid: Tensor) -> list[float]:
    """Where something switches, as far as the grid shows."""
    import torch

    found: set[float] = set()
    for switch in dict.fromkeys(_switches(expr, name)):
        at = values(switch, **{name: grid})
        low, high = grid[:-1][at[1:] != at[:-1]], grid[1:][at[1:] != at[:-1]]
        start = values(switch, **{name: low}) if len(low) else low
        while len(low):
            middle = (low + high) / 2
            # Two neighbours among the floats, or a place that is zero for all that matters.
            if bool(((middle == low) | (middle == high) | (middle.abs() < TINY)).all()):
                break
            same = values(switch, **{name: middle}) == start
            low, high = torch.where(same, middle, low), torch.where(same, high, middle)
        found |= {_simplest(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True)}
    return sorted(found)


def _simplest(low: float, high: float) -> float:
    """Of two neighbours the one that is written shorter: the place that was meant."""
    return 0.0 if min(abs(low), abs(high)) <= TINY else min((low, high), key=lambda x: len(repr(x)))


def _switches(expr: Expr, name: str) -> Iterable[Expr]:
    """Expressions that are constant in pieces and step where something can go wrong."""
    for node in postorder(expr):
        if not isinstance(node, Op) or name not in symbols(node):
            continue
        match node.name, node.args:
            case (("lt" | "le" | "gt" | "ge" | "eq" | "ne" | "to_bool"), _):
                yield node
            case step, _ if step in STEPS:
                yield node
            case "mod", (a, b):
                yield op("floor", op("truediv", a, b))
            case (("maximum" | "minimum"), (a, b)):
                yield op("gt", a, b)
            case (("relu" | "abs" | "log" | "log2" | "sqrt" | "rsqrt"), (a,)):
                yield op("gt", a, 0.0)
            case "log1p", (a,):
                yield op("gt", a, -1.0)
            case "pow", (a, b):
                yield op("gt", a, 0.0)
                yield op("gt", b, 0.0)
            case (("truediv" | "safe_div"), (_, b)):
                yield op("gt", b, 0.0)
                yield op("lt", b, 0.0)


def _look(expr: Expr, name: str, place: float, span: Span) -> tuple[str, bool]:
    """What is wrong at the place, with @ for it, and whether it is a jump; nothing: ("", False)."""
    import torch

    size = max(1.0, abs(place))
    steps = torch.tensor(NEAR, dtype=torch.float64) * size
    sides = {}
    for label, direction in (("left", -1.0), ("right", 1.0)):
        if (place > span.low) if direction < 0 else (place < span.high):
            sides[label] = values(expr, **{name: place + direction * steps})
    here = float(values(expr, **{name: torch.tensor(place)}))
    around = values(expr, **{name: torch.tensor([place + d * size for d in (-0.5, -0.1, 0.1, 0.5)])})
    scale = max([1e-30, *(abs(v) for v in around.tolist() if math.isfinite(v))])
    limits = {label: float(side[-1]) for label, side in sides.items()}
    at_place = place > span.low or not span.low_open
    seen = [*limits.values(), *([here] if at_place else [])]
    if any(math.isnan(v) for v in seen):
        return "is not a number at @", False
    if any(math.isinf(v) for v in seen) or any(_diverges(side, scale) for side in sides.values()):
        return "is infinite at @", False
    left, right = limits.get("left"), limits.get("right")
    if left is not None and right is not None and abs(right - left) > RELATIVE * scale:
        apart = (sides["right"] - sides["left"]).abs()
        if float(apart[-1]) > 0.5 * float(apart[1]):
            return f"jumps at @: {_near(left, scale)} to the left, {_near(right, scale)} to the right", True
    if at_place:
        for label, side in sides.items():
            apart = (side - here).abs()
            if float(apart[-1]) > RELATIVE * scale and float(apart[-1]) > 0.5 * float(apart[1]):
                return f"jumps at @: {shown(here)} there, {_near(limits[label], scale)} to the {label}", True
    if any(_steep(side, steps, scale) for side in sides.values()):
        return "has an infinite slope at @", False
    if at_place and not math.isfinite(float(values(derivative(expr, name), **{name: torch.tensor(place)}))):
        return "has a slope that is not a number at @", False
    return "", False


def _near(value: float, scale: float) -> str:
    """A limit, which was taken at a small distance."""
    return shown(round(value / scale, 8) * scale)


def _diverges(side: Tensor, scale: float) -> bool:
    sizes = side.abs().tolist()
    return sizes[-1] > 1e3 * scale and all(b > 5 * a for a, b in pairwise(sizes))


def _steep(side: Tensor, steps: Tensor, scale: float) -> bool:
    """Whether the slope grows without end: every hundredth of the distance it is noticeably larger."""
    slopes = ((side[:-1] - side[1:]).abs() / (steps[:-1] - steps[1:])).tolist()
    return slopes[-1] > RELATIVE * scale and all(b > 1.1 * a for a, b in pairwise(slopes))
