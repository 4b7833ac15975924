"""Reads of tables at computed indices: `table[i - j + n - 1]`, embeddings, `gather`, `index_select`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attngen.ir.expr import Expr, Op, const, postorder
from attngen.lift.indices import Indices, broadcast, positive
from attngen.lift.nodes import called, example, is_tensor, shape, size_key

if TYPE_CHECKING:
    from torch.fx import Node

    from attngen.lift.elements import Elements


def gathered(reader: Elements, node: Node, index: Indices) -> Expr | None:
    """The element of a read at computed indices; None for other nodes."""
    rule = RULES.get(called(node))
    if rule is None:
        return None
    try:
        return rule(reader, index, *node.args, **node.kwargs)
    except TypeError:
        return None


def _embedding(reader: Elements, index: Indices, input: Node, weight: Node, *args: Any, **options: Any) -> Expr | None:
    if any(value not in (None, False, 2.0) for value in (*args, *options.values())):
        return None
    return reader.at(weight, (_inside(reader, reader.at(input, index[:-1]), shape(weight)[0]), index[-1]))


def _inside(reader: Elements, place: Expr, size: Any) -> Expr:
    """An index that torch refuses outside of its table, where it is too involved to be proven inside: kept inside."""
    rounded = any(isinstance(n, Op) and n.name == "to_int" for n in postorder(place))
    if not rounded or not isinstance(size_key(size), int):
        return place
    bounded = reader.lines.op("maximum", place, const(0))
    return reader.lines.op("minimum", bounded, const(size_key(size) - 1))


def _index_select(reader: Elements, index: Indices, input: Node, dim: int, at: Node) -> Expr:
    place = positive(dim, len(index))
    found = _inside(reader, reader.at(at, (index[place],)), shape(input)[place])
    return reader.at(input, (*index[:place], found, *index[place + 1 :]))


def _gather(reader: Elements, index: Indices, input: Node, dim: int, at: Node, **options: Any) -> Expr:
    place = positive(dim, len(index))
    found = _inside(reader, reader.at(at, index), shape(input)[place])
    return reader.at(input, (*index[:place], found, *index[place + 1 :]))


def _getitem(reader: Elements, index: Indices, input: Any, keys: Any) -> Expr | None:
    """Integer tensors among the keys, beside whole slices and integers."""
    if not is_tensor(input):
        return None
    parts = list(keys) if isinstance(keys, tuple | list) else [keys]
    if Ellipsis in parts:
        where = parts.index(Ellipsis)
        parts[where : where + 1] = [slice(None)] * (len(shape(input)) - len(parts) + 1)
    parts += [slice(None)] * (len(shape(input)) - len(parts))
    tables = [i for i, part in enumerate(parts) if is_tensor(part)]
    whole = all(part == slice(None) or isinstance(part, int) or is_tensor(part) for part in parts)
    if not tables or not whole or any(example(parts[i]).dtype.is_floating_point for i in tables):
        return None
    if any(str(example(parts[i]).dtype) == "torch.bool" for i in tables) or len(parts) != len(shape(input)):
        return None
    fixed = [i for i, part in enumerate(parts) if isinstance(part, int)]
    moved = sorted([*tables, *fixed])
    rank = max(len(shape(parts[i])) for i in tables)
    start = moved[0] if moved == list(range(moved[0], moved[-1] + 1)) else 0
    shared, rest = index[start : start + rank], iter(index[:start] + index[start + rank :])
    sizes = _joined_shape([shape(parts[i]) for i in tables], rank)
    found: list[Expr] = []
    for part in parts:
        if is_tensor(part):
            found.append(reader.at(part, broadcast(shared, sizes, shape(part))))
        else:
            found.append(reader.scalar(part) if isinstance(part, int) else next(rest))
    return reader.at(input, tuple(found))


def _joined_shape(shapes: list[tuple[Any, ...]], rank: int) -> tuple[Any, ...]:
    found: list[Any] = [1] * rank
    for each in shapes:
        for place, size in enumerate(each, rank - len(each)):
            found[place] = size if found[place] == 1 else found[place]
    return tuple(found)


RULES: dict[str, Callable[..., Expr | None]] = {
    "embedding": _embedding,
    "index_select": _index_select,
    **dict.fromkeys(("gather", "take_along_dim"), _gather),
    "getitem": _getitem,
}
