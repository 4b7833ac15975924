"""Prints the functions of a normalizer: what they compute from a score and from the numbers of a row."""

from __future__ import annotations

from dataclasses import dataclass

from attngen.codegen.backends.cpu.scope import Scope
from attngen.codegen.plan import BranchPlan, KeySetPlan
from attngen.codegen.printers.cpp import Printer, Rows, Value
from attngen.ir.expr import Expr

ZERO = "    return 0;"
ZERO_VECTOR = "    return vf{};"


@dataclass(frozen=True, slots=True)
class Rules:
    """Function bodies of one branch. Row-uniform parts go to `rows`, the row values of its first key set."""

    scope: Scope
    branch: BranchPlan
    rows: Rows

    @property
    def keyset(self) -> KeySetPlan:
        return self.branch.keysets[0]

    def printer(self, symbols: dict[str, Value], lane: str = "") -> Printer:
        """A printer over the given symbols and what earlier passes left in the row."""
        found = {
            f"{name}[{k}]": Value(f"row.pass_{name}[{k}]", "float")
            for k in range(len(self.branch.passes))
            for name in ("m", "r")
        }
        return self.scope.printer(found | symbols, args="row.args->", rows=self.rows, lane=lane, lanes="columns")

    def number(self, expr: Expr | None, **symbols: str) -> str:
        """The body of a function of a row and some numbers."""
        if expr is None:
            return ZERO
        return self.printer({name: Value(text, "float") for name, text in symbols.items()}).body(
            expr, "float", vector=False
        )

    def lanes(self, expr: Expr | None, **numbers: str) -> str:
        """The body of a function of a row and the scores `s` of W keys; `numbers` are the same for all of them."""
        if expr is None:
            return ZERO_VECTOR
        symbols = {name: Value(text, "float", True) for name, text in (("s", "s"), ("before", "before"))}
        symbols |= {name: Value(text, "float") for name, text in numbers.items()}
        return self.printer(symbols).body(expr, "float", vector=True)

    def with_slope(self, expr: Expr, slope: Expr | None) -> str:
        """The same, with a derivative that is assigned to `slope`."""
        printer = self.printer({"s": Value("s", "float", True)})
        value = printer.emit(expr).cast("float").widen()
        by = Value("vf{}", "float", True) if slope is None else printer.emit(slope).cast("float").widen()
        return "\n".join([*printer.lines, f"    slope = {by.text};", f"    return {value.text};"])

    def finalize(self, expr: Expr, **totals: str) -> str:
        """The body of a function of a row, its totals and W columns."""
        symbols = {name: Value(text, "float") for name, text in totals.items()} | {
            "acc": Value("acc", "float", True),
            "vsum": Value("vsum", "float", True),
            "dim": Value("columns.index", "int", True),
        }
        columns = "    const Keys columns = {iota() + (integer)dim, dim, W, lanes(true)};\n"
        return columns + self.printer(symbols, lane="dim").body(expr, "float", vector=True)
