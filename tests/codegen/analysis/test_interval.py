from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attngen.codegen.analysis import interval as iv
from attngen.codegen.analysis.integers import RULES
from attngen.codegen.analysis.interval import ANY_INT, Interval, ints
from tests.codegen.analysis.strategies import thorough

EXACT: dict[str, Callable[[int, int], int]] = {
    "mul": lambda x, y: x * y,
    "floordiv": lambda x, y: x // y,
    "mod": lambda x, y: x % y,
    "minimum": min,
    "maximum": max,
    "bit_and": lambda x, y: x & y,
    "bit_or": lambda x, y: x | y,
    "bit_xor": lambda x, y: x ^ y,
    "shl": lambda x, y: x << y,
    "shr": lambda x, y: x >> y,
}
ENDS = st.one_of(st.integers(-20, 20), st.integers(-(2**40), 2**40))


def holds(found: Interval, value: int) -> bool:
    lo, hi = int(found.lo), int(found.hi)
    return (lo <= value or lo <= -iv.LIMIT) and (value <= hi or hi >= iv.LIMIT)


@thorough(400)
@given(
    st.sampled_from(sorted(EXACT)),
    st.lists(ENDS, min_size=2, max_size=2),
    st.lists(ENDS, min_size=2, max_size=2),
    st.data(),
)
def test_values_of_members_are_inside(name: str, a: list[int], b: list[int], data: Any) -> None:
    if name in ("shl", "shr"):
        b = [abs(x) % 30 for x in b]
    (low, high), (least, most) = sorted(a), sorted(b)
    x, y = data.draw(st.integers(low, high)), data.draw(st.integers(least, most))
    if name in ("floordiv", "mod") and y == 0:
        return
    found = RULES[name](ints(low, high), ints(least, most))
    assert holds(found, EXACT[name](x, y))
    assert holds(iv.add(ints(low, high), ints(least, most)), x + y)
    assert holds(iv.absolute(ints(low, high)), abs(x))


@pytest.mark.parametrize("name", ["bit_and", "bit_or", "bit_xor"])
def test_bits_of_bounded_numbers_are_bounded(name: str) -> None:
    for a, b in ((ints(-5, 3), ints(-17, 2)), (ints(-5, 3), ints(-6, 2)), (ints(-1, 0), ints(-1, -1))):
        most = max(-int(a.lo) - 1, -int(b.lo) - 1, int(a.hi), int(b.hi), 0)
        found, ones = RULES[name](a, b), 2 ** most.bit_length() - 1
        assert -ones - 1 <= int(found.lo) <= int(found.hi) <= ones


@pytest.mark.parametrize("name", ["mul", "minimum", "maximum", "floordiv", "mod", "bit_or", "shl"])
def test_unbounded_stays_unbounded(name: str) -> None:
    for other in (ANY_INT, ints(1, 3), ints(0, iv.UNBOUNDED)):
        found = RULES[name](ANY_INT, other)
        assert holds(found, -5 if name not in ("mod", "maximum") else 1)
    assert holds(iv.add(ANY_INT, ANY_INT), 2**61)
    assert holds(iv.add(ANY_INT, ANY_INT), -(2**61))
    assert holds(iv.add(ints(0, iv.UNBOUNDED), ints(-(2**59), 0)), 2**61)


@thorough(200)
@given(st.floats(width=64, allow_nan=False), st.floats(width=64, allow_nan=False))
def test_floats_hold_in_both_precisions(x: float, y: float) -> None:
    for rule, exact in ((iv.add, np.add), (iv.multiply, np.multiply), (iv.divide, np.divide)):
        found = rule(iv.floats(x, x), iv.floats(y, y))
        for kind in (np.float64, np.float32):
            with np.errstate(all="ignore"):
                value = exact(kind(x), kind(y))
            assert bool(found.nan) if np.isnan(value) else found.lo <= value <= found.hi
