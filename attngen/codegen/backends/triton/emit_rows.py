"""The first kernel of a backward: what the rows of a branch hand out before any key is looked at."""

from __future__ import annotations

from dataclasses import dataclass

from attngen.codegen.backends.triton.config import room
from attngen.codegen.backends.triton.flows import Flow
from attngen.codegen.backends.triton.parts import factored, state_columns, sums_values, written_cotangents
from attngen.codegen.backends.triton.row_state import RowState, state
from attngen.codegen.backends.triton.saved import ROW, loading_vectors
from attngen.codegen.backends.triton.scope import Scope
from attngen.codegen.backends.triton.text import before, within
from attngen.codegen.derive.backward import row_factor, row_gradient
from attngen.codegen.plan import KeySetPlan
from attngen.codegen.printers.triton import Printer
from attngen.codegen.printers.triton_values import Axes, Layout, Value
from attngen.ir.expr import Expr
from attngen.templates import render


@dataclass(frozen=True, slots=True)
class RowsHoles:
    """The holes of rows.py.jinja."""

    title: str
    index: int
    setup: str
    room: int
    width: int
    dout: str
    counts: bool
    lines: str
    written: bool
    acc: str
    mass: str
    has_lse: bool
    lse_lines: str
    lse_mass: str
    drops_massless: bool
    results: str
    flows: str


class RowsEmitter:
    """Prints branch `index`, whose cotangents begin at channel `offset` of those of the result."""

    def __init__(
        self, scope: Scope, index: int, offset: int, prefix: str, flows: tuple[Flow, ...], wanted: frozenset[str]
    ) -> None:
        self.scope, self.index, self.offset, self.prefix = scope, index, offset, prefix
        self.plan, self.branch = scope.plan, scope.plan.branches[index]
        self.main = self.branch.keysets[0]
        self.found = row_gradient(scope.plan, index, wanted)
        self.flows = [flow for flow in flows if flow.branch == index and flow.keyset is None]
        self.rows = RowState(scope, index, f"{prefix}r")
        self.layout = Layout(keys=str(room(self.branch.width)))

    def text(self) -> str:
        """The statements of the branch."""
        printer = self._printer("c")
        written = not factored(self.plan, self.index)
        acc = self._tile(printer, self.found.acc) if written else ""
        vsum = self._tile(printer, self.found.vsum) if written and sums_values(self.plan, self.index) else ""
        mass = self._tile(printer, self.found.mass)
        lse = self._printer("l")
        lse_mass = lse.full(lse.emit(self.found.lse_mass).cast("float"), Axes.ROW)
        holes = RowsHoles(
            title=f"branch {self.index}: {self.branch.normalizer.name}",
            index=self.index,
            setup="\n".join(
                [
                    f"n_k = {self.scope.length(self.main)}",
                    *self.rows.load(made=False),
                    *loading_vectors(self.plan, self.index),
                ]
            ),
            room=room(self.branch.width),
            width=self.branch.width,
            dout=load_cotangents(self.scope, self.index, self.offset),
            counts=self.branch.needs_count,
            lines="\n".join([*before(printer), *within(printer)]),
            written=written,
            acc=acc,
            mass=mass,
            has_lse=self.plan.problem.return_lse and self.branch.last.lse is not None,
            lse_lines="\n".join(before(lse)),
            lse_mass=lse_mass,
            drops_massless=self.branch.drops_massless,
            results="\n".join(self._results(vsum)),
            flows="\n".join(line for flow in self.flows for line in self._flow(flow)),
        )
        return render("triton/rows.py.jinja", holes)

    def _printer(self, suffix: str) -> Printer:
        columns = {name: Value(name, "float", Axes.PAIR) for name in ("acc", "vsum", "dout")}
        columns["dim"] = Value("dim", "int", Axes.KEY)
        known = self.rows.symbols(self.main) | columns | {"dlse": Value("dlse", "float", Axes.ROW)}
        return self.scope.printer(known, f"{self.prefix}{suffix}", self.layout)

    def _tile(self, printer: Printer, expr: Expr) -> str:
        return printer.full(printer.emit(expr).cast("float"), Axes.PAIR)

    def _alive(self, text: str) -> str:
        return f"tl.where(alive, {text}, 0.0)" if self.branch.drops_massless else text

    def _results(self, vsum: str) -> list[str]:
        columns = state_columns(self.plan)[self.index]
        lines = [f"tl.store({state(columns['dmass'])}, dmass, mask=q_live)"]
        if factored(self.plan, self.index):
            for name, cotangent in (("factor", self.found.acc), ("vfactor", self.found.vsum)):
                if name not in columns:
                    continue
                factor, printer = row_factor(cotangent), self._printer(name)
                assert factor is not None
                value = printer.full(printer.emit(factor).cast("float"), Axes.ROW)
                lines += [*before(printer), f"tl.store({state(columns[name])}, {self._alive(value)}, mask=q_live)"]
            return lines
        width = self.branch.width
        if vsum:
            lines.append(f"dvsum = {vsum}")
        for name in written_cotangents(self.plan, self.index):
            value = f"tl.where(alive[:, None], {name}, 0.0)" if self.branch.drops_massless else name
            base = f"{name}_{self.index}_data + (b * n_h + h) * n_q * {width}"
            lines.append(f"store_rows({base}, q, {width}, q_live, 1, {value}, {width}, {room(width)})")
        return lines

    def _flow(self, flow: Flow) -> list[str]:
        printer = self._printer(f"{flow.name}_")
        cotangent = printer.emit(flow.cotangent).cast("float")
        conditions = ["q_live"]
        if self.branch.drops_massless:
            conditions.append("alive")
        if flow.source == "lse":
            conditions.append("(dlse != 0.0)")
        if flow.source == "sink":
            assert self.branch.last.sink is not None
            score = printer.full(printer.emit(self.branch.last.sink).cast("float"), Axes.ROW)
            conditions.append(f'({score} > float("-inf"))')
        place, shape = self.scope.place(flow.load, printer)
        if flow.source == "result":
            value = printer.full(cotangent, Axes.PAIR)
            live = f"({' & '.join(conditions)})[:, None] & (dim < {self.branch.width})[None, :]"
            value = f"tl.where({live}, {value}, 0.0)"
            if flow.kind == "element":
                lines = [*before(printer), *within(printer)]
                at = f"(({ROW})[:, None] * {self.branch.width} + dim[None, :])"
                spread = self.layout.spread(f"({place})", shape, Axes.PAIR)
                return [
                    *lines,
                    f"tl.store({flow.name}_values + {at}, {value}, mask={live})",
                    f"tl.store({flow.name}_places + {at}, dim[None, :] * 0 + {spread}, mask={live})",
                ]
            value = f"tl.sum({value}, 1)"
        else:
            value = f"tl.where({' & '.join(conditions)}, {printer.full(cotangent, Axes.ROW)}, 0.0)"
        return [*before(printer), *within(printer), *row_flow(flow, value, place)]


def row_flow(flow: Flow, value: str, place: str) -> list[str]:
    """Statements that write what the rows of a tile have for a tensor."""
    if flow.kind == "tile":
        at = "(b * n_h + h) * tiles + tile"
        value = f"tl.sum({value}, 0)"
        return [f"tl.store({flow.name}_values + {at}, {value})", f"tl.store({flow.name}_places + {at}, {place})"]
    return [
        f"tl.store({flow.name}_values + {ROW}, {value}, mask=q_live)",
        f"tl.store({flow.name}_places + {ROW}, q * 0 + {place}, mask=q_live)",
    ]


def load_cotangents(scope: Scope, index: int, offset: int) -> str:
    """The cotangents of the result at the positions q: those of the channels of branch `index`."""
    width = scope.plan.branches[index].width
    base = f"dout_data + {_head_of_cotangents(offset)}"
    return f"load_rows({base}, q, dout_stride2, q_live, dout_stride3, {width}, {room(width)})"


def load_cotangent_tiles(
    scope: Scope, keyset: KeySetPlan, index: int, offset: int, lines: list[str], prefix: str
) -> str:
    """The same, where `lines` stand in front of the loop that they are loaded in."""
    width = scope.plan.branches[index].width
    lines.append(f"{prefix} = dout_data + {_head_of_cotangents(offset)}")
    return scope.load_queries(keyset, prefix, "dout", offset, width, lines)


def _head_of_cotangents(offset: int) -> str:
    return f"b * dout_stride0 + h * dout_stride1 + {offset} * dout_stride3"


def load_written(scope: Scope, index: int, name: str) -> str:
    """The same for what the first kernel wrote."""
    width = scope.plan.branches[index].width
    base = f"{name}_{index}_data + (b * n_h + h) * n_q * {width}"
    return f"load_rows({base}, q, {width}, q_live, 1, {width}, {room(width)})"
