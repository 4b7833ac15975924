"""Operations that only move elements: for each, which element of its input an element of its result is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attngen.ir.expr import Expr, const
from attngen.lift.fold import fold
from attngen.lift.indices import Indices, Unclear, broadcast, positive, reshaped
from attngen.lift.nodes import called, is_tensor, shape

if TYPE_CHECKING:
    from torch.fx import Node

Rule = Callable[..., Indices]


def viewed(node: Node, index: Indices) -> tuple[Node, Indices] | None:
    """The input of a view, and where its element is; None where the node is no view that is understood."""
    rule = RULES.get(called(node))
    if rule is None or not node.args or not is_tensor(node.args[0]) or not is_tensor(node):
        return None
    x: Any = node.args[0]
    try:
        found = rule(index, shape(node), shape(x), *node.args[1:], **node.kwargs)
    except (TypeError, Unclear):
        return None
    return None if found is None else (x, found)


def _transpose(index: Indices, new: Any, old: Any, dim0: int, dim1: int) -> Indices:
    found = list(index)
    a, b = positive(dim0, len(index)), positive(dim1, len(index))
    found[a], found[b] = found[b], found[a]
    return tuple(found)


def _permute(index: Indices, new: Any, old: Any, *dims: Any) -> Indices:
    order = dims[0] if len(dims) == 1 and isinstance(dims[0], list | tuple) else dims
    found = list(index)
    for place, dim in enumerate(order):
        found[positive(dim, len(index))] = index[place]
    return tuple(found)


def _unsqueeze(index: Indices, new: Any, old: Any, dim: int) -> Indices:
    place = positive(dim, len(index))
    return index[:place] + index[place + 1 :]


def _reshape(index: Indices, new: Any, old: Any, *sizes: Any, **options: Any) -> Indices:
    return reshaped(index, new, old)


def _expand(index: Indices, new: Any, old: Any, *sizes: Any) -> Indices:
    return broadcast(index, new, old)


def _repeat_interleave(index: Indices, new: Any, old: Any, repeats: int, dim: int | None = None, **_: Any) -> Any:
    if dim is None or not isinstance(repeats, int):
        return None
    place = positive(dim, len(index))
    return (*index[:place], fold("floordiv", (index[place], const(repeats))), *index[place + 1 :])


def _select(index: Indices, new: Any, old: Any, dim: int, at: int) -> Any:
    if not isinstance(at, int) or not isinstance(old[dim], int):
        return None
    place = positive(dim, len(old))
    return (*index[:place], const(positive(at, old[dim])), *index[place:])


def _narrow(index: Indices, new: Any, old: Any, dim: int, start: int, length: int) -> Any:
    if not isinstance(start, int) or start < 0:
        return None
    place = positive(dim, len(old))
    return (*index[:place], fold("add", (index[place], const(start))), *index[place + 1 :])


def _getitem(index: Indices, new: Any, old: Any, keys: Any) -> Any:
    """Slices, integers, None and Ellipsis; tensors among the keys are gathers, which are no views."""
    parts = list(keys) if isinstance(keys, tuple | list) else [keys]
    named = sum(part is not None and part is not Ellipsis for part in parts)
    if Ellipsis not in parts:
        parts.append(Ellipsis)
    where = parts.index(Ellipsis)
    parts[where : where + 1] = [slice(None)] * (len(old) - named)
    found: list[Expr] = []
    given, dim = iter(index), 0
    for part in parts:
        if part is None:
            next(given)
            continue
        if isinstance(part, bool) or not isinstance(part, int | slice):
            return None
        element = _key(part, old[dim], given)
        if element is None:
            return None
        found.append(element)
        dim += 1
    return tuple(found)


def _key(part: int | slice, size: Any, given: Any) -> Expr | None:
    if isinstance(part, int):
        return const(part) if part >= 0 else const(part + size) if isinstance(size, int) else None
    start, step = part.start or 0, 1 if part.step is None else part.step
    if not isinstance(start, int) or not isinstance(step, int) or step < 1:
        return None
    if start < 0:
        if not isinstance(size, int):
            return None
        start = max(0, start + size)
    element = next(given)
    if step != 1:
        element = fold("mul", (element, const(step)))
    return fold("add", (element, const(start))) if start else element


def _attribute(index: Indices, new: Any, old: Any, name: str) -> Any:
    match name:
        case "T" if len(index) == 2:
            return index[::-1]
        case "mT":
            return _transpose(index, new, old, -1, -2)
        case "data":
            return None
    return None


RULES: dict[str, Rule] = {
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), _transpose),
    "t": lambda index, new, old: index[::-1],
    "permute": _permute,
    "unsqueeze": _unsqueeze,
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten", "ravel", "view_as", "reshape_as", "squeeze"), _reshape),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), _expand),
    "repeat_interleave": _repeat_interleave,
    "select": _select,
    "narrow": _narrow,
    "getitem": _getitem,
    "getattr": _attribute,
    "contiguous": lambda index, new, old, **options: index,
    "clone": lambda index, new, old, **options: index,
}
BROADCASTS = frozenset({"expand", "expand_as", "broadcast_to", "repeat_interleave"})
"""Views whose result is larger than their input: a kernel reads the input instead."""
