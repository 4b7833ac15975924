"""What a pair of query and key hands out in a backward, for both kernels that visit pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from attngen.codegen.backends.triton.emit_rows import load_cotangent_tiles, load_written
from attngen.codegen.backends.triton.parts import factored, sums_values
from attngen.codegen.backends.triton.row_state import RowState
from attngen.codegen.backends.triton.scope import Scope
from attngen.codegen.backends.triton.text import before, within
from attngen.codegen.backends.triton.tile import Tile
from attngen.codegen.derive.backward import pair_gradient, score_of
from attngen.codegen.derive.factors import common_factor
from attngen.codegen.derive.gradient import ONE
from attngen.codegen.derive.overflow import products_fit, scores_blow_up
from attngen.codegen.plan import EXP
from attngen.codegen.printers.triton import Printer
from attngen.codegen.printers.triton_values import Axes, Value
from attngen.ir.expr import Expr, Sym, substitute
from attngen.templates import render

Outputs = Callable[[bool], list[str]]
"""outputs(sure): statements that use a pair; `sure`: no key of the tile is absent."""


@dataclass(frozen=True, slots=True)
class PairHoles:
    """The holes of pair.py.jinja."""

    positions: str
    rows: str
    scores: str
    clamped: bool
    cotangent: str
    product: str
    factor: str
    exponential: bool
    rise: str
    shift: str
    guarded: bool
    sure: bool
    scan: str
    outputs: str


def late_factor(scope: Scope, exprs: Sequence[Expr]) -> tuple[Expr, tuple[Expr, ...]]:
    """What sums over pairs are multiplied by at their end, and what then is summed: for each key set, the cotangents of
    one dot. Half precision has no room for cotangents without their scale."""
    return (ONE, tuple(exprs)) if scope.plan.problem.dtype == "fp16" else common_factor(exprs)


def times(scope: Scope, name: str, factor: Expr, prefix: str) -> tuple[list[str], str]:
    """Statements, and a variable times such a factor."""
    if factor == ONE:
        return [], name
    printer = scope.printer({}, prefix)
    value = printer.emit(factor).cast("float")
    return before(printer), f"{name} * {value.typed(Axes.NONE)}"


class Pairs:
    """The pairs of one key set of branch `index`, whose cotangents begin at channel `offset` of those of the result."""

    def __init__(
        self, scope: Scope, index: int, keyset: int, offset: int, rows: RowState, names: Iterator[str],
        wanted: frozenset[str],
    ) -> None:  # fmt: skip
        self.scope, self.index, self.rows = scope, index, rows
        self.branch = scope.plan.branches[index]
        self.keyset = self.branch.keysets[keyset]
        self.found = pair_gradient(self.branch, self.keyset, wanted)
        self.factored = factored(scope.plan, index)
        self.names = names
        core = self.keyset.core
        self.trivial = isinstance(core, Sym) and core.name == "dot[0]"
        # Weights of exponentials are 0 where a key is absent, and so is what they are a factor of, unless a score
        # program has a slope that is no number.
        self.vanishes = self.branch.exponential and self.trivial
        loose = self.vanishes and scope.by_keys and not scope.dims and not sums_values(scope.plan, index)
        self.tile = Tile(scope, self.keyset, self.branch.width, next(names), loose)
        self.queries: list[str] = []
        dots = self.branch.keysets[0].dots
        self.query_loads = [scope.queries(dot, self.keyset, self.queries, next(names)) for dot in dots]
        if self.factored:
            self.cotangents = load_cotangent_tiles(scope, self.keyset, index, offset, self.queries, next(names))
        else:
            self.cotangents = load_written(scope, index, "dacc")

    def printer(self) -> Printer:
        """A printer that knows the pair, and the weight of an exponential."""
        symbols = self.rows.symbols(self.keyset) | self.scope.pairs(self.keyset)
        symbols |= {name: Value(name, "float", Axes.PAIR) for name in ("dp", "before", "dbefore")}
        printer = self.scope.printer(symbols, next(self.names))
        if self.branch.exponential:
            weight = substitute(EXP, {"s": score_of(self.keyset)})
            printer.define(weight, Value("p", "float", Axes.PAIR))
        return printer

    def loads(self) -> list[str]:
        """Statements that bring what the rows of a tile have: queries, cotangents and numbers."""
        lines = [f"query_{i} = {load}" for i, load in enumerate(self.query_loads)]
        return [*lines, f"dacc = {self.cotangents}", *self.rows.load()]

    def text(
        self,
        masked: bool,
        printer: Printer,
        outputs: Outputs,
        extra: Sequence[str] = (),
        scan: Outputs | None = None,
    ) -> str:
        """The statements of one tile. `extra` is read with the rows; `outputs` may read what the printer printed, which
        may read what `scan` left."""
        by_keys, branch = self.scope.by_keys, self.branch
        clamped = bool(branch.passes) or (branch.exponential and scores_blow_up(branch))
        products = []
        for i in range(len(self.keyset.dots)):
            if by_keys:
                products.append(f"dot_{i} = product(k_{i}, tl.trans(query_{i}))")
            else:
                products += [f"k_{i} = {self.tile.load_keys(i)}", f"dot_{i} = product(query_{i}, tl.trans(k_{i}))"]
        sure = not masked and self.trivial
        spread = self.scope.layout.spread
        holes = PairHoles(
            positions="\n".join(self.tile.positions(masked)),
            rows="\n".join([*self.loads(), *extra]) if by_keys else "",
            scores=self.tile.scores_of("\n".join(products), masked),
            clamped=clamped,
            cotangent="" if by_keys else f"v = {self.tile.load_values()}",
            product="product(v, tl.trans(dacc))" if by_keys else "product(dacc, tl.trans(v))",
            factor=f" * {spread('factor', Axes.ROW, Axes.PAIR)}" if self.factored else "",
            exponential=self.branch.exponential,
            rise=spread("rise", Axes.ROW, Axes.PAIR),
            shift=spread("shift", Axes.ROW, Axes.PAIR),
            guarded=not (clamped or products_fit(self.scope.plan.problem.dtype)),
            sure=sure,
            scan="\n".join(scan(sure) if scan else []),
            outputs="\n".join([*within(printer), *outputs(sure)]),
        )
        return render("triton/pair.py.jinja", holes)

    def kept(self, printer: Printer, expr: Expr) -> Callable[[bool], str]:
        """A tile of what pairs hand out: nothing where a key is absent."""
        value = printer.full(printer.emit(expr).cast("float"), Axes.PAIR)
        return lambda sure: value if sure or self.vanishes else f"tl.where(present, {value}, 0.0)"

    def setup(self, printers: list[Printer]) -> list[str]:
        """Statements in front of the loop, where heads are known."""
        return [*self.queries, *before(self.tile.mask, self.tile.score), *self.rows.outside, *before(*printers)]
