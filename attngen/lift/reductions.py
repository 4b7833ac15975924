"""Sums and maxima over the keys of a row: each becomes a marker that stands for one number of the row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from attngen.ir.expr import Expr, Op, Sym, postorder, sym, symbols
from attngen.lift.blocked import blocked
from attngen.lift.indices import positive
from attngen.lift.nodes import called, is_tensor, shape

if TYPE_CHECKING:
    from torch.fx import Node

    from attngen.lift.elements import Elements
    from attngen.lift.indices import Indices

Kind = Literal["sum", "max"]
MARKER = "row "
"""How the name of a marker begins; no symbol of the IR does."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """The sum or the maximum of an expression over the keys of a row, and over one more key if there is a `sink`."""

    kind: Kind
    of: Expr
    marker: Sym
    sink: Expr | None = None


END = sym("n_k")
"""The index of the column that `torch.cat([scores, sink], -1)` puts behind the keys."""


def markers(*exprs: Expr) -> tuple[Sym, ...]:
    """The markers below expressions, in order."""
    found = (n for n in postorder(*exprs) if isinstance(n, Sym) and n.name.startswith(MARKER))
    return tuple(dict.fromkeys(found))


def reduced(reader: Elements, node: Node, index: Indices) -> Expr | None:
    """The element of a reduction over scores; None for other nodes, and where there are no scores below."""
    name = called(node)
    x: Any = node.args[0] if node.args else node.kwargs.get("input")
    if name in ("getitem", "getattr") and called(x) == "max" and node.args[1] in (0, "values"):
        reader.seen[x] = reader.scores[x] = None
        name, node = "max", x
        x = node.args[0]
    if name not in RULES or not is_tensor(x) or (name == "max" and len(node.args) < 2 and "dim" not in node.kwargs):
        return None
    if name == "max" and any(is_tensor(a) for a in node.args[1:]):
        return None
    dim, keepdim = _dims(node, len(shape(x)))
    if dim is None:
        return None
    # softmax keeps all of its dimensions, and its element is asked for at the key.
    if name in ("softmax", "log_softmax", "softmin"):
        place, whole = index[dim], index
    else:
        place = sym("kv")
        whole = (*index[:dim], place, *index[dim + 1 if keepdim else dim :])
    inner = reader.at(x, whole)
    if not reader.is_score(inner):
        return None
    sink = reader.at(x, (*whole[:-1], END)) if dim == len(whole) - 1 and reader.has_sink(x) else None
    if place != sym("kv") or any("kv" in symbols(each) for i, each in enumerate(whole) if i != dim):
        raise blocked(f"`{name}` over dimension {dim - len(shape(x))} is not over the keys of a query", node)
    if sink is not None and name not in ("softmax", "max", "amax"):
        raise blocked(f"`{name}` over keys and one more column; softmax lifts there", node)
    return RULES[name](reader, inner, sink)


def _dims(node: Node, rank: int) -> tuple[int | None, bool]:
    """The one dimension, and whether it stays."""
    dim: Any = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    keep: Any = node.kwargs.get("keepdim", node.args[2] if len(node.args) > 2 else False)
    if isinstance(dim, tuple | list):
        dim = dim[0] if len(dim) == 1 else None
    return (positive(dim, rank) if isinstance(dim, int) else None), keep is True


def _softmax(reader: Elements, x: Expr, sink: Expr | None) -> Expr:
    op = reader.lines.op
    weight = op("exp", _minus(reader, x, _max(reader, x, sink)))
    return op("truediv", weight, _sum(reader, weight, sink))


def _log_sum_exp(reader: Elements, x: Expr, sink: Expr | None) -> Expr:
    op = reader.lines.op
    top = _max(reader, x, sink)
    return op("add", top, op("log", _sum(reader, op("exp", _minus(reader, x, top)), sink)))


def _mean(reader: Elements, x: Expr, sink: Expr | None) -> Expr:
    return reader.lines.op("truediv", _sum(reader, x, sink), sym("n_k"))


def _sum(reader: Elements, x: Expr, sink: Expr | None) -> Expr:
    return reader.row("sum", x, sink)


def _max(reader: Elements, x: Expr, sink: Expr | None) -> Expr:
    """max(x - r) is max(x) - r for a number r of the row."""
    match x:
        case Op(name="sub", args=(inner, Sym(name=name) as row)) if name.startswith(MARKER):
            below = sink.args[0] if isinstance(sink, Op) and sink.name == "sub" and sink.args[1] == row else None
            if sink is None or below is not None:
                return reader.lines.op("sub", _max(reader, inner, below), row)
    return reader.row("max", x, sink)


def _minus(reader: Elements, x: Expr, top: Expr) -> Expr:
    """(x - r) - (m - r) is x - m."""
    match x, top:
        case Op(name="sub", args=(a, r)), Op(name="sub", args=(b, s)) if r == s:
            return reader.lines.op("sub", a, b)
    return reader.lines.op("sub", x, top)


RULES: dict[str, Callable[[Elements, Expr, Expr | None], Expr]] = {
    "softmax": _softmax,
    "softmin": lambda reader, x, sink: _softmax(reader, reader.lines.op("neg", x), sink),
    "log_softmax": lambda reader, x, sink: reader.lines.op("sub", x, _log_sum_exp(reader, x, sink)),
    "logsumexp": _log_sum_exp,
    "sum": _sum,
    "mean": _mean,
    **dict.fromkeys(("amax", "max"), _max),
}
