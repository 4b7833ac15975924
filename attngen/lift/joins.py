"""`torch.cat([scores, sink], -1)`: one more column behind the keys, as attention sinks are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attngen.ir.expr import Expr, const, sym
from attngen.lift.indices import positive
from attngen.lift.nodes import called, is_one, is_tensor, same, shape
from attngen.lift.reductions import END

if TYPE_CHECKING:
    from torch.fx import Node

    from attngen.lift.elements import Elements
    from attngen.lift.indices import Indices


def joined(reader: Elements, node: Node, index: Indices) -> Expr | None:
    """The element of scores with a column behind them: at a key that of the scores, at the end that of the column."""
    if called(node) not in ("cat", "concat", "concatenate"):
        return None
    parts: Any = node.args[0]
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    if len(parts) != 2 or not all(map(is_tensor, parts)) or not isinstance(dim, int):
        return None
    place = positive(dim, len(index))
    scores, column = parts
    if place != len(index) - 1 or not same(shape(scores)[-1], reader.n_k) or not is_one(shape(column)[-1]):
        return None
    if index[-1] == END:
        return reader.at(column, (*index[:-1], const(0)))
    return reader.at(scores, index) if index[-1] == sym("kv") else None
