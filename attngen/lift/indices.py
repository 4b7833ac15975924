"""Index expressions through a change of shape: which element of the old tensor an element of the new one is."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from attngen.ir.expr import Const, Expr, Op, Sym, const
from attngen.lift.fold import fold
from attngen.lift.nodes import is_one, size_key

Indices = tuple[Expr, ...]


class Unclear(Exception):
    """Sizes that are only known at run time stand where a number is needed."""


def reshaped(index: Indices, new: Sequence[Any], old: Sequence[Any]) -> Indices:
    """The index into `old` sizes of the element at `index` in `new` sizes; both hold the same elements in order."""
    found: list[Expr] = []
    for news, olds in groups(new, old):
        part, sizes = index[news.start : news.stop], old[olds.start : olds.stop]
        if len(part) == len(sizes) == 1:
            found.append(part[0])
        else:
            found += unflattened(flattened(part, new[news.start : news.stop]), sizes)
    return tuple(found)


def groups(new: Sequence[Any], old: Sequence[Any]) -> list[tuple[range, range]]:
    """Runs of dimensions that hold the same elements, each as short as possible. Raises `Unclear`."""
    found: list[tuple[range, range]] = []
    i = j = 0
    while i < len(new) or j < len(old):
        start = i, j
        left = new[i] if i < len(new) else 1
        right = old[j] if j < len(old) else 1
        i, j = min(i + 1, len(new)), min(j + 1, len(old))
        while size_key(left) != size_key(right):
            if i < len(new) and (j == len(old) or _grows(left, right)):
                left, i = left * new[i], i + 1
            elif j < len(old):
                right, j = right * old[j], j + 1
            else:
                raise Unclear
        found.append((range(start[0], i), range(start[1], j)))
    return found


def _grows(left: Any, right: Any) -> bool:
    """Whether the left of two different products lacks factors that the right one has."""
    a, b = size_key(left), size_key(right)
    if isinstance(a, int) and isinstance(b, int):
        return a < b
    if isinstance(a, int) or isinstance(b, int):
        return isinstance(a, int)
    return bool((a / b).as_numer_denom()[1] != 1)


def flattened(index: Indices, sizes: Sequence[Any]) -> Expr:
    """The place of an element when dimensions are joined to one."""
    total: Expr = const(0)
    for each, size in zip(index, sizes, strict=True):
        if is_one(size):
            continue
        if total != const(0):
            total = fold("mul", (total, const(number(size))))
        total = _joined(total, each)
    return total


def _joined(high: Expr, low: Expr) -> Expr:
    """`x // n * n + x % n` is x again."""
    match high, low:
        case Op(name="mul", args=(Op(name="floordiv", args=(x, n)), m)), Op(name="mod", args=(y, k)):
            if n == m == k and x == y:
                return x
    return fold("add", (high, low))


def unflattened(flat: Expr, sizes: Sequence[Any]) -> list[Expr]:
    """The index of the element at a place of several dimensions joined to one."""
    found: list[Expr] = []
    for position, size in enumerate(sizes):
        if is_one(size):
            found.append(const(0))
            continue
        behind = prod(number(s) for s in sizes[position + 1 :])
        first = all(is_one(s) for s in sizes[:position])
        found.append(_digit(flat, behind, None if first else number(size)))
    return found


def _digit(flat: Expr, behind: int, size: int | None) -> Expr:
    """flat // behind % size; of `a * m + h` the parts are known."""
    match flat:
        case Op(name="add", args=(Op(name="mul", args=(a, Const(value=m))), c)) if _below(c, m):
            if m == behind:
                return a if size is None else fold("mod", (a, const(size)))
            if behind == 1 and size == m:
                return c
    if behind != 1:
        flat = fold("floordiv", (flat, const(behind)))
    return flat if size is None else fold("mod", (flat, const(size)))


def _below(c: Expr, size: Any) -> bool:
    """Whether an index of heads, or a remainder, is known to lie in 0 .. size - 1."""
    match c:
        case Sym(name="h"):
            return True
        case Op(name="mod", args=(_, Const(value=value))):
            return bool(value == size)
    return False


def number(size: Any) -> int:
    """A size that is known now. Raises `Unclear`."""
    key = size_key(size)
    if not isinstance(key, int):
        raise Unclear
    return key


def broadcast(index: Indices, new: Sequence[Any], old: Sequence[Any]) -> Indices:
    """The index into a tensor of `old` sizes that was broadcast to `new` sizes."""
    if not old:
        return ()
    pairs = zip(index[-len(old) :], new[-len(old) :], old, strict=True)
    return tuple(const(0) if is_one(o) and not is_one(n) else i for i, n, o in pairs)


def positive(dim: int, rank: int) -> int:
    """A dimension counted from the front."""
    return dim + rank if dim < 0 else dim
