"""Interval rules of the integer operators that are not affine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from attngen.codegen.analysis import interval as iv
from attngen.codegen.analysis.deferred import array
from attngen.codegen.analysis.interval import LIMIT, Array, Interval
from attngen.ir.expr import Op

LARGEST_SHIFT = 60


def int_operator(e: Op, args: list[Interval]) -> Interval:
    """Bounds of an int operator from those of its arguments."""
    rule = RULES.get(e.name)
    if rule is None or any(a.is_float for a in args):
        return iv.ANY_INT
    return rule(*args)


def _exact(point: Callable[[Array, Array], Array], a: Interval, b: Interval, otherwise: Interval) -> Interval:
    """The value itself where both arguments are single values."""
    known = a.point() & b.point() & (np.abs(a.lo) < LIMIT) & (np.abs(b.lo) < LIMIT)
    value = point(np.where(known, a.lo, 0), np.where(known, b.lo, 0))
    return iv.ints(np.where(known, value, otherwise.lo), np.where(known, value, otherwise.hi))


def _ones(a: Interval, b: Interval) -> Array:
    """A low 2**n - 1 such that both numbers, and what their bits make, lie in -2**n .. 2**n - 1."""
    top = np.maximum(np.maximum(np.maximum(a.hi, ~a.lo), np.maximum(b.hi, ~b.lo)), 0)
    with np.errstate(divide="ignore"):
        bits = np.where(top == 0, 0, np.floor(np.log2(np.maximum(top, 1).astype(np.float64))) + 1)
    # log2 of an int just below a power of two may round up; one bit more is sound.
    return array((np.int64(1) << np.minimum(bits, LARGEST_SHIFT).astype(np.int64)) - 1)


def _bit_and(a: Interval, b: Interval) -> Interval:
    hi = np.where((a.lo >= 0) & (b.lo >= 0), np.minimum(a.hi, b.hi), np.where(a.lo >= 0, a.hi, b.hi))
    some, any_ = (a.lo >= 0) | (b.lo >= 0), _of_bits(a, b)
    return _exact(np.bitwise_and, a, b, iv.ints(np.where(some, 0, any_.lo), np.where(some, hi, any_.hi)))


def _bit_or(a: Interval, b: Interval) -> Interval:
    both, any_ = (a.lo >= 0) & (b.lo >= 0), _of_bits(a, b)
    return _exact(np.bitwise_or, a, b, iv.ints(np.where(both, np.maximum(a.lo, b.lo), any_.lo), any_.hi))


def _bit_xor(a: Interval, b: Interval) -> Interval:
    both, any_ = (a.lo >= 0) & (b.lo >= 0), _of_bits(a, b)
    return _exact(np.bitwise_xor, a, b, iv.ints(np.where(both, 0, any_.lo), any_.hi))


def _of_bits(a: Interval, b: Interval) -> Interval:
    """Any number of as many bits as the two have, the sign among them."""
    known = (np.minimum(a.lo, b.lo) > -LIMIT) & (np.maximum(a.hi, b.hi) < LIMIT)
    ones = _ones(a, b)
    return iv.ints(np.where(known, ~ones, -iv.UNBOUNDED), np.where(known, ones, iv.UNBOUNDED))


def _power_of_two(b: Interval) -> Interval:
    return iv.ints(np.int64(1) << np.clip(b.lo, 0, LARGEST_SHIFT), np.int64(1) << np.clip(b.hi, 0, LARGEST_SHIFT))


def _shift(rule: Callable[[Interval, Interval], Interval]) -> Callable[[Interval, Interval], Interval]:
    def shifted(a: Interval, b: Interval) -> Interval:
        legal = (b.lo >= 0) & (b.hi < LARGEST_SHIFT)
        found = rule(a, _power_of_two(b))
        return iv.ints(np.where(legal, found.lo, -iv.UNBOUNDED), np.where(legal, found.hi, iv.UNBOUNDED))

    return shifted


def _power(a: Interval, b: Interval) -> Interval:
    """a ** b for one exponent 0 <= b <= 8 in every box; else unbounded."""
    exponent = int(b.lo.reshape(-1)[0]) if b.lo.size else 0
    if not bool(np.all((b.lo == exponent) & (b.hi == exponent))) or not 0 <= exponent <= 8:
        return iv.ANY_INT
    result = iv.ints(1, 1)
    for _ in range(exponent):
        result = iv.multiply(result, a)
    if exponent % 2 == 0:
        result = iv.meet(result, iv.ints(0, iv.UNBOUNDED))
    return result


RULES: dict[str, Callable[..., Interval]] = {
    "mul": iv.multiply,
    "floordiv": iv.floor_divide,
    "mod": iv.modulo,
    "minimum": iv.smaller,
    "maximum": iv.larger,
    "abs": iv.absolute,
    "sign": iv.sign,
    "bit_and": _bit_and,
    "bit_or": _bit_or,
    "bit_xor": _bit_xor,
    "shl": _shift(iv.multiply),
    "shr": _shift(iv.floor_divide),
    "pow": _power,
}
