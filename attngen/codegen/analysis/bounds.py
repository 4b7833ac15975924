"""Index bounds: can an index leave its tensor?

Proven for concrete sizes, using that the mask holds wherever the index is evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from attngen.codegen.analysis.affine import Affine, affine
from attngen.codegen.analysis.deferred import array
from attngen.codegen.analysis.evaluate import Evaluator
from attngen.codegen.analysis.extremes import comparisons
from attngen.codegen.analysis.interval import LIMIT, Bools, Interval
from attngen.codegen.analysis.loads import LoadBounds, unknown
from attngen.codegen.analysis.ranges import SEQUENCE, conjuncts
from attngen.codegen.analysis.tiles import Sizes, Tiles, evaluator
from attngen.errors import BoundsError
from attngen.ir.expr import Expr, Load, Op, loads
from attngen.ir.nodes import Space


class Status(Enum):
    """What is known about an index: it stays inside, it may leave, or only the data can tell."""

    PROVEN = "proven"
    DATA_DEPENDENT = "data-dependent"
    VIOLATED = "violated"


@dataclass(frozen=True, slots=True)
class IndexCheck:
    """One index of one load: the range lo .. hi (inclusive; None: unbounded) that it stays in, and the verdict.

    `reads` names the tensors and run-time scalars that the index is computed from. A data-dependent index must be
    checked at launch, from the minimum and maximum of what it reads.
    """

    load: Load
    dimension: int
    extent: int
    status: Status
    lo: int | None
    hi: int | None
    reads: tuple[str, ...] = ()

    @property
    def index(self) -> Expr:
        """The index expression."""
        return self.load.indices[self.dimension]

    def message(self, index: str) -> str:
        """What is wrong, where `index` is the text of the index expression."""
        lo, hi = ("unbounded" if end is None else str(end) for end in (self.lo, self.hi))
        return (
            f"{self.load.tensor} has {self.extent} entries along dimension {self.dimension}; "
            f"index {index} reaches {lo} .. {hi}"
        )

    def error(self, index: str) -> BoundsError:
        """The error at the user's line."""
        hint = "negative indices do not count from the end; " if self.lo is None or self.lo < 0 else ""
        text = f"{self.message(index)} ({hint}allowed: 0 .. {self.extent - 1})"
        return BoundsError(text, source=self.index.source or self.load.source)


def assumptions(mask: Expr) -> list[Affine]:
    """Affine forms that are >= 0 wherever the mask is true: the conjuncts that compare integers."""
    found: list[Affine] = []
    for part in conjuncts(mask):
        negate = isinstance(part, Op) and part.name == "not"
        inner = part.args[0] if isinstance(part, Op) and negate else part
        match inner:
            case Op(name="lt" | "le" | "gt" | "ge" | "eq" | "ne", args=(a, b)) if "float" not in (a.type, b.type):
                join, forms = comparisons(inner.name, affine(a) - affine(b), negate)
                found += [-form for form in forms if join == "and"]
    return [g for form in found for g in (form, *_linearised(form))]


def _linearised(form: Affine) -> list[Affine]:
    """|x| <= w also says x <= w and -x <= w."""
    for atom, c in form.terms:
        match atom:
            case Op(name="abs", args=(x,)) if c < 0:
                rest = form.without(atom)
                return [rest + affine(x) * c, rest - affine(x) * c]
    return []


def check_indices(
    exprs: Sequence[Expr],
    extents: Mapping[str, tuple[int, ...]],
    sizes: Sizes,
    space: Space = SEQUENCE,
    *,
    where: Expr | None = None,
    data: LoadBounds = unknown,
) -> list[IndexCheck]:
    """A check of every index of every load below the expressions whose tensor has known extents.

    `where`: the mask under which the expressions are evaluated (None for the mask itself, which is evaluated
    everywhere). `data` may know tensors and scalars, which then count with their actual ranges.
    """
    if min(sizes.n_q, sizes.n_k, sizes.n_b, sizes.n_h) < 1:
        return []
    whole = evaluator(space, Tiles((0, sizes.n_q - 1), (0, sizes.n_k - 1)), sizes, data)
    return check_in_boxes(exprs, extents, whole.symbols, where=where, data=data)


def check_in_boxes(
    exprs: Sequence[Expr],
    extents: Mapping[str, tuple[Any, ...]],
    symbols: Mapping[str, Interval],
    *,
    where: Expr | None = None,
    data: LoadBounds = unknown,
) -> list[IndexCheck]:
    """The same for symbols and extents of several boxes: an index is proven where it is in each of them."""
    values = Evaluator(symbols, data, [] if where is None else assumptions(where))
    return [
        _check(values, load, i, extent, data)
        for load in loads(*exprs)
        for i, extent in enumerate(extents.get(load.tensor, ())[: len(load.indices)])
    ]


def strays_in_boxes(
    exprs: Sequence[Expr],
    extents: Mapping[str, tuple[Any, ...]],
    symbols: Mapping[str, Interval],
    where: Expr | None,
    data: LoadBounds,
) -> list[tuple[Load, int, Bools]]:
    """For each index, as load and dimension, the boxes in which it is not proven: also of what comes later."""
    values = Evaluator(symbols, data, [] if where is None else assumptions(where))
    return [
        (load, i, _outside(values.number(load.indices[i]), extent))
        for load in loads(*exprs)
        for i, extent in enumerate(extents.get(load.tensor, ())[: len(load.indices)])
    ]


def _outside(index: Interval, extent: Any) -> Bools:
    return array((index.lo <= index.hi) & ((index.lo < 0) | (index.hi >= extent)))


def _check(values: Evaluator, load: Load, dimension: int, extents: Any, data: LoadBounds) -> IndexCheck:
    index = load.indices[dimension]
    found = values.number(index)
    ends = [a.reshape(-1) for a in np.broadcast_arrays(found.lo, found.hi, extents, _outside(found, extents))]
    outside = ends.pop()
    lo, hi, extent = (int(end[np.argmax(outside)]) for end in ends)  # the first box that is wrong, or the first
    reads = tuple(dict.fromkeys(inner.tensor for inner in loads(index)))
    low, high = None if lo <= -LIMIT else lo, None if hi >= LIMIT else hi
    if not outside.any():
        status = Status.PROVEN
    elif any(_is_unknown(inner, values, data) for inner in loads(index)):
        status = Status.DATA_DEPENDENT
    else:
        status = Status.VIOLATED
    return IndexCheck(load, dimension, extent, status, low, high, reads)


def _is_unknown(load: Load, values: Evaluator, data: LoadBounds) -> bool:
    ends = [values.number(i) for i in load.indices]
    return data(load, tuple(e.lo for e in ends), tuple(e.hi for e in ends)) is None
