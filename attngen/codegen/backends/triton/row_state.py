"""The numbers of a row in a backward: read, or computed from what was read."""

from __future__ import annotations

from attngen.codegen.backends.triton.emit_pass import results
from attngen.codegen.backends.triton.emit_step import LOG2E, added, digits
from attngen.codegen.backends.triton.parts import state_columns
from attngen.codegen.backends.triton.saved import ROW, ROWS, loading
from attngen.codegen.backends.triton.scope import Scope
from attngen.codegen.backends.triton.text import before, within
from attngen.codegen.plan import KeySetPlan
from attngen.codegen.printers.triton_values import Axes, Value


class RowState:
    """The rows of one branch. Statements outside of the loop, and those that stand where rows come up."""

    def __init__(self, scope: Scope, index: int, prefix: str) -> None:
        self.scope, self.index = scope, index
        self.branch = scope.plan.branches[index]
        self.printer = scope.printer(self.symbols(self.branch.keysets[0]), prefix)
        self._alpha = ""
        if self.branch.exponential:
            alpha = self.printer.emit(self.branch.keysets[0].alpha).cast("float")
            self._alpha = self.printer.full(alpha, Axes.ROW)

    def symbols(self, keyset: KeySetPlan) -> dict[str, Value]:
        """What expressions over a row may read."""
        names = ("m", "mass", "count", "dmass")
        dr = {f"dr[{k}]": _row(f"dr_{k}") for k in range(len(self.branch.passes))}
        known = self.scope.rows(keyset) | results(len(self.branch.passes))
        return known | dr | {name: _row(name) for name in names}

    @property
    def outside(self) -> list[str]:
        """Statements in front of a loop over rows."""
        return before(self.printer) if self.scope.by_keys else []

    def load(self, made: bool = True) -> list[str]:
        """Statements that bring the numbers of the rows; with `made` those that kernels before this one made too."""
        lines = loading(self.scope.plan, self.index)
        if made:
            columns = state_columns(self.scope.plan)[self.index]
            lines += [f"{name} = load_numbers({state(column)}, q_live)" for name, column in columns.items()]
        lines += within(self.printer) if self.scope.by_keys else before(self.printer)
        last = self.branch.last
        if self.branch.exponential:
            # A scale of 0 must not turn an absent key's -inf into NaN.
            lines.append(f"slope = tl.maximum({self._alpha} * {LOG2E!r}, 1e-30)")
            lines.append(f"rise, shift, _ = line_of(anchor, slope, {digits(last.offset)})")
            lines.append(f"m = level_of(anchor, slope, {digits(last.offset)})")
        elif last.anchor is not None:
            lines.append(f"m = or_zero(anchor){added(last.offset)}")
        return lines


def state(column: int) -> str:
    """Pointers to the numbers that kernels of a backward keep of each row."""
    return f"state_data + {column} * {ROWS} + {ROW}"


def _row(name: str) -> Value:
    return Value(name, "float", Axes.ROW)
