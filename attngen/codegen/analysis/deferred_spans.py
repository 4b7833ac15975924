"""The least and the greatest that an operation on integers or bools can give, from those of its arguments."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

Span = tuple[int, int]
WIDEST: Span = (-(2**63), 2**63 - 1)


def whole(dtype: np.dtype[Any]) -> Span:
    """All that an element of the type can be."""
    if dtype.kind == "b":
        return 0, 1
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def span_of(name: str, spans: Sequence[Span | None], dtype: np.dtype[Any]) -> Span:
    """Bounds of the result; all of the type where it may wrap around, or where nothing is known."""
    if None in spans:
        return whole(dtype)
    found = (_bounds_of_bool if dtype.kind == "b" else _bounds)(name, [s for s in spans if s is not None])
    least, most = whole(dtype)
    return found if found is not None and least <= found[0] and found[1] <= most else (least, most)


def _bounds(name: str, spans: Sequence[Span]) -> Span | None:
    match name, spans:
        case "negative", [(low, high)]:
            return -high, -low
        case "absolute", [(low, high)]:
            return max(low, -high, 0), max(-low, high)
        case "sign", [(low, high)]:
            return (low > 0) - (low < 0), (high > 0) - (high < 0)
        case "add", [a, b]:
            return a[0] + b[0], a[1] + b[1]
        case "subtract", [a, b]:
            return a[0] - b[1], a[1] - b[0]
        case "multiply", [a, b]:
            corners = [x * y for x, y in product(a, b)]
            return min(corners), max(corners)
        case "minimum", [a, b]:
            return min(a[0], b[0]), min(a[1], b[1])
        case "maximum", [a, b]:
            return max(a[0], b[0]), max(a[1], b[1])
        case "floor_divide", [a, b] if b[0] > 0:
            corners = [x // y for x, y in product(a, b)]
            return min(corners), max(corners)
        case "remainder", [_, b] if b[0] > 0:
            return 0, b[1] - 1
        case "gcd", [a, b]:
            return 0, max(map(abs, (*a, *b)))
        case _:
            return None


def _bounds_of_bool(name: str, spans: Sequence[Span]) -> Span | None:
    match name, spans:
        case "bitwise_and", [a, b]:
            return min(a[0], b[0]), min(a[1], b[1])
        case "bitwise_or", [a, b]:
            return max(a[0], b[0]), max(a[1], b[1])
        case _:
            return None


def decided(name: str, a: Span, b: Span, same: bool) -> bool | None:
    """A comparison that bounds decide, or that of a number with itself; else None."""
    match name:
        case "less":
            return True if a[1] < b[0] else False if same or a[0] >= b[1] else None
        case "less_equal":
            return True if same or a[1] <= b[0] else False if a[0] > b[1] else None
        case "greater":
            return decided("less", b, a, same)
        case "greater_equal":
            return decided("less_equal", b, a, same)
        case "equal" | "not_equal":
            if same or a[1] < b[0] or b[1] < a[0]:
                return same == (name == "equal")
    return None
