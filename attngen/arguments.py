"""Checks of the arguments of library functions: one line that names the argument, what was given, what is allowed."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeGuard

from attngen.errors import SpecError
from attngen.suggest import nearest

if TYPE_CHECKING:
    from torch import Tensor


def is_tensor(value: object) -> TypeGuard[Tensor]:
    """Whether `value` is a tensor; a program that never imported torch holds none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def shown(value: object) -> str:
    """The value as messages show it: a tensor by dtype and shape."""
    if is_tensor(value):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def refuse(name: str, value: object, allowed: str) -> SpecError:
    """The error for an argument outside of what is allowed."""
    return SpecError(f"{name}: got {shown(value)}; allowed: {allowed}")


def integer(name: str, value: object, low: int, high: int | None = None, *, allowed: str | None = None) -> int:
    """An int in low .. high."""
    span = allowed or (f"an integer >= {low}" if high is None else f"an integer in {low} .. {high}")
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        raise refuse(name, value, span)
    return value


def divisor(name: str, value: object, of: int, what: str) -> int:
    """An int >= 1 that divides `of`, which the message calls `what`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or of % value:
        divisors = ", ".join(str(n) for n in range(1, of + 1) if of % n == 0)
        raise refuse(name, value, f"a divisor of {of}, {what}: {divisors}")
    return value


def number(
    name: str, value: object, *, low: float | None = None, above: float | None = None, allowed: str | None = None
) -> float:
    """A finite number, at least `low`, greater than `above`, where these are given."""
    bound = "" if low is None else f" >= {low}"
    span = allowed or f"a finite number{bound if above is None else f' > {above}'}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise refuse(name, value, span)
    if (low is not None and value < low) or (above is not None and value <= above):
        raise refuse(name, value, span)
    return value


def tensor(name: str, value: object, ranks: tuple[int, ...], shapes: str, *, integral: bool) -> Any:
    """A tensor of one of the ranks, of integers or of floats; `shapes` is how the message writes what is allowed."""
    kind = "an integer" if integral else "a floating-point"
    if not is_tensor(value) or value.dim() not in ranks or value.dtype.is_floating_point == integral:
        raise refuse(name, value, f"{kind} tensor {shapes}")
    return value


def per_head(name: str, value: object, low: int) -> Any:
    """An int >= low, or an integer tensor (H,) with one for each head (its values are read anew at every call)."""
    if is_tensor(value):
        return tensor(name, value, (1,), "(H,)", integral=True)
    return integer(name, value, low, allowed=f"an integer >= {low}, or an integer tensor (H,)")


def head_integers(name: str, value: object, low: int, high: int, allowed: str) -> tuple[int, int]:
    """An int in low .. high, or an integer tensor (H,) that holds such ints now: the least and the largest."""
    if not is_tensor(value):
        given = integer(name, value, low, high, allowed=allowed)
        return given, given
    values = tensor(name, value, (1,), "(H,)", integral=True).tolist()
    for h, one in enumerate(values):
        if not low <= one <= high:
            raise SpecError(f"{name}: got {one} for head {h}; allowed: {allowed}")
    return min(values, default=low), max(values, default=high)


def head_numbers(name: str, value: object) -> Any:
    """A finite number, or a float tensor () for all heads or (H,) with one for each head."""
    if is_tensor(value):
        return tensor(name, value, (0, 1), "() or (H,)", integral=False)
    return float(number(name, value, allowed="a finite number, or a floating-point tensor () or (H,)"))


def row_numbers(name: str, value: object) -> Any:
    """A finite number, or a float tensor (), (H,) or (B, H, Nq) for all, or with one for each head or row."""
    if is_tensor(value):
        return tensor(name, value, (0, 1, 3), "(), (H,) or (B, H, Nq)", integral=False)
    return float(number(name, value, allowed="a finite number, or a floating-point tensor (), (H,) or (B, H, Nq)"))


def one_of(name: str, value: object, allowed: Iterable[str]) -> str:
    """One of the words; the message holds the nearest."""
    words = list(allowed)
    if isinstance(value, str) and value in words:
        return value
    raise refuse(name, value, ", ".join(words) + nearest(str(value), words))


def each(value: Any, h: Any) -> Any:
    """Inside of traced functions: the number itself, or the number of head h."""
    return value[h] if getattr(value, "is_attngen_tensor", False) else value


def each_row(value: Any, b: Any, h: Any, q: Any) -> Any:
    """Inside of traced functions: the number itself, that of head h, or that of row (b, h, q)."""
    if not getattr(value, "is_attngen_tensor", False):
        return value
    return value[h] if value.ndim == 1 else value[b, h, q]


# Called as they are by the tracer, not traced into.
each_row.__attngen_intrinsic__ = True  # type: ignore[attr-defined]
each.__attngen_intrinsic__ = True  # type: ignore[attr-defined]
