"""What loop bounds are written in: the key symbol that is solved for and the ends of a query tile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attngen.ir.expr import Const, Expr, Op, Sym, const, op, postorder, sym
from attngen.ir.nodes import Grid, Space

KEYS = frozenset(("kv", "kv[0]", "kv[1]", "kv[2]"))
QUERIES = frozenset(("q", "q[0]", "q[1]", "q[2]"))
ROWS = QUERIES | {"n_visible"}
"""What is another for every query, its number of visible keys included."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Key ranges are half-open within [0, end). `first` and `last` are the ends of the query tile by symbol.

    In a frame of one row both are the query itself. What is solved with a run-time divisor or factor holds only for one
    sign of it: `assumed` collects them, positive unless `negative` says otherwise.
    """

    key: Sym
    end: Expr
    first: Mapping[str, Expr]
    last: Mapping[str, Expr]
    negative: frozenset[Expr] = frozenset()
    assumed: dict[Expr, bool] = field(default_factory=dict, compare=False)

    @property
    def of_a_row(self) -> bool:
        """Whether the tile is a single query."""
        return not self.first

    def assume_sign(self, factor: Expr) -> bool:
        """Whether a divisor or factor counts as positive; noted unless it is a literal."""
        if isinstance(factor, Const):
            return bool(factor.value > 0)
        self.assumed[factor] = factor not in self.negative
        return self.assumed[factor]


def depends_on(e: Expr, names: frozenset[str]) -> bool:
    """Whether any of the symbols occurs below the expression, or a random number, which is another for every pair."""
    return any(n.name in names if isinstance(n, Sym) else _is_random(n) for n in postorder(e))


def _is_random(node: Expr) -> bool:
    return isinstance(node, Op) and node.name == "uniform"


def flat(row: bool = False) -> Frame:
    """Ranges of flat key positions for q_first .. q_last, or for the row q."""
    if row:
        return Frame(_symbol("kv"), sym("n_k"), {}, {})
    return Frame(_symbol("kv"), sym("n_k"), {"q": sym("q_first")}, {"q": sym("q_last")})


def axis(space: Grid, i: int, row: bool = False) -> Frame:
    """Ranges of coordinate i of the keys for q_first[i] .. q_last[i], or for the row with coordinate q[i]."""
    end, q = const(space.dims[i]), f"q[{i}]"
    if row:
        return Frame(_symbol(f"kv[{i}]"), end, {}, {})
    return Frame(_symbol(f"kv[{i}]"), end, {q: sym(f"q_first[{i}]")}, {q: sym(f"q_last[{i}]")})


def coordinates(space: Space, of: str) -> dict[str, Expr]:
    """The coordinates of a grid in terms of the flat position `q` or `kv`; none for other spaces."""
    if not isinstance(space, Grid):
        return {}
    result: dict[str, Expr] = {}
    stride = 1
    for i in reversed(range(len(space.dims))):
        position: Expr = sym(of) if stride == 1 else op("floordiv", sym(of), stride)
        result[f"{of}[{i}]"] = position if i == 0 else op("mod", position, space.dims[i])
        stride *= space.dims[i]
    return result


def _symbol(name: str) -> Sym:
    found = sym(name)
    assert isinstance(found, Sym)
    return found
