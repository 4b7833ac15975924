"""The struct of one branch in the backward: cotangents of a row, and the key sets."""

from __future__ import annotations

from dataclasses import dataclass

from attngen.codegen.backends.cpu.emit_branch import row_body
from attngen.codegen.backends.cpu.emit_flows import Flow, add_line, flush_lines, pair_flow
from attngen.codegen.backends.cpu.emit_pairs import PairPrinter, choose, total_rows
from attngen.codegen.backends.cpu.scope import ROW_SYMBOLS, Scope, flag
from attngen.codegen.derive.backward import Flows, RowGradient, row_gradient
from attngen.codegen.plan import BranchPlan
from attngen.codegen.printers.cpp import SCALAR, Printer, Rows, Value
from attngen.codegen.targets import Target, targets_of
from attngen.templates import render


@dataclass(frozen=True, slots=True)
class GradientHoles:
    """The holes of gradient.cpp.jinja."""

    name: str
    row: str
    base_row: str
    branch: str
    index: int
    passes: int
    fields: str
    keysets: str
    keyset_count: int
    targets: int
    scans: str
    ascending: str
    pass_counts: str
    pass_is_root: str
    sums: int
    row_body: str
    columns: str
    finish: str
    each_keyset: str
    queries: str
    target_base: str


def print_gradient(scope: Scope, index: int, branch: BranchPlan, wanted: frozenset[str]) -> str:
    """The row struct, the structs of the key sets and the struct of the branch."""
    row = f"GradientRow{index}"
    targets = targets_of(scope.plan, index, wanted)
    rows = [Rows(ROW_SYMBOLS, f"g{j}_") for j in range(len(branch.keysets))]
    keysets = [
        PairPrinter(scope, index, branch, keyset, rows[j], targets, wanted).struct(f"KeySetGradient{index}_{j}", row)
        for j, keyset in enumerate(branch.keysets)
    ]
    own = _RowPrinter(scope, index, branch, targets, rows[0])
    found = row_gradient(scope.plan, index, wanted)
    columns, flows = own.columns(found)
    finish = own.finish(found, flows)
    order = list(range(len(branch.keysets)))
    ascending = branch.scan is None or branch.scan.direction == "forward"
    if not ascending:
        order.reverse()  # the last key of all comes first
    main = branch.keysets[0]
    holes = GradientHoles(
        name=f"Gradient{index}",
        row=row,
        base_row=f"Row{index}",
        branch=f"Branch{index}",
        index=index,
        passes=len(branch.passes),
        keysets="\n".join(keysets),
        keyset_count=len(branch.keysets),
        targets=len(targets),
        scans=flag(branch.scan is not None),
        ascending=flag(ascending),
        pass_counts=_any_of([k for k, one in enumerate(branch.passes) if one.term is not None]),
        pass_is_root=_any_of([k for k, one in enumerate(branch.passes) if one.kind == "root"]),
        sums=max(1, sum(flow.of_row for flow in flows)),
        columns=columns,
        finish=finish,
        each_keyset=" ".join(
            f"f(KeySet{index}_{j}{{}}, KeySetGradient{index}_{j}{{}}, Number<{j}>{{}});" for j in order
        ),
        queries="\n".join(
            choose(i, len(main.dots), total_rows(scope, dot.q, dot.q_start, main, scope.order is not None))
            for i, dot in enumerate(main.dots)
        ),
        target_base=_target_base(scope, index, branch, targets),
        fields="\n".join(f"  {SCALAR[expr.type]} {name};" for r in rows for expr, name in r.fields.items()),
        row_body="\n".join(row_body(scope, k, r) for k, r in zip(branch.keysets, rows, strict=True)),
    )
    return render("cpp/gradient.cpp.jinja", holes)


@dataclass(frozen=True, slots=True)
class _RowPrinter:
    """Prints what happens once per row."""

    scope: Scope
    index: int
    branch: BranchPlan
    targets: tuple[Target, ...]
    rows: Rows

    def _place(self, load: object) -> int:
        return next(i for i, target in enumerate(self.targets) if target.load == load)

    def _symbols(self) -> dict[str, Value]:
        last = self.branch.last
        # In powers of two the driver has already added the adjustment.
        added = last.offset and not self.branch.exponential
        anchor = f"(row.totals.anchor + real({last.offset!r}))" if added else "row.totals.anchor"
        rest = {"mass": "row.totals.mass", "count": "row.totals.count", "dlse": "dlse", "dmass": "row.dmass"}
        return {"m": Value(anchor, "float")} | {name: Value(text, "float") for name, text in rest.items()}

    def columns(self, found: RowGradient) -> tuple[str, list[Flow]]:
        symbols = self._symbols() | {name: Value(name, "float", True) for name in ("acc", "vsum", "dout")}
        symbols["dim"] = Value("columns.index", "int", True)
        printer = self.scope.printer(symbols, args="row.args->", rows=self.rows, lane="dim", lanes="columns")
        for to, expr in (("dacc", found.acc), ("dvsum", found.vsum)):
            printer.lines.append(f"    {to} = {printer.emit(expr).cast('float').widen().text};")
        share = printer.emit(found.mass).cast("float").widen()
        printer.lines.append(f"    dmass += select(columns.live, {share.text}, vf{{}});")
        flows: list[Flow] = []
        for load, cotangent in found.loads:
            value = printer.emit(cotangent).cast("float").widen()
            live = Value(f"select(columns.live, {value.text}, vf{{}})", "float", True)
            place = self._place(load)
            slot = sum(flow.of_row for flow in flows)
            at = (self.index, place)
            flows.append(
                pair_flow(self.scope, printer, self.targets[place], at, live, slot, lane="dim", lanes="columns")
            )
        return "\n".join(printer.lines), flows

    def finish(self, found: RowGradient, flows: list[Flow]) -> str:
        sums = [flow for flow in flows if flow.of_row]
        lines = flush_lines(self.scope, self._symbols(), self.rows, self.index, self.targets, sums)
        lse = self.scope.printer(self._symbols(), args="row.args->", rows=self.rows)
        share = lse.emit(found.lse_mass).cast("float")
        self._add(lse, found.lse_loads)
        lse.lines.append(f"    row.dmass += {share.text};")
        lines += ["    row.dmass = dmass;", "    if (dlse != 0) {", *lse.lines, "    }"]
        if found.sink_loads:
            assert self.branch.last.sink is not None
            sink = self.scope.printer(self._symbols(), args="row.args->", rows=self.rows)
            score = sink.emit(self.branch.last.sink).cast("float")
            self._add(sink, found.sink_loads, f"{score.text} > -INF")
            lines += ["    {", *sink.lines, "    }"]
        return "\n".join([*lines, "    return row.dmass;"])

    def _add(self, printer: Printer, flows: Flows, condition: str = "true") -> None:
        """Adds what a row itself hands out."""
        for load, cotangent in flows:
            value = printer.emit(cotangent).cast("float")
            place = self._place(load)
            added = add_line(self.scope, printer, self.targets[place], (self.index, place), value.text)
            printer.lines.append(f"{printer.indent}if ({condition}) {added}")


def _any_of(numbers: list[int]) -> str:
    return " || ".join(f"k == {k}" for k in numbers) or "false"


def _target_base(scope: Scope, index: int, branch: BranchPlan, targets: tuple[Target, ...]) -> str:
    """Where the copies of a batch and head begin in the totals."""
    lines: list[str] = []
    for i, target in enumerate(targets):
        symbols = {name: Value(f"int64_t({name})", "int") for name in ("b", "h")} | scope.sizes("a.", branch.keysets[0])
        printer = scope.printer(symbols, args="a.")
        sizes = f"a.{scope.arguments.field(target.load.tensor)}_size"
        at = {n: printer.emit(target.load.indices[n]).cast("int").text for n in target.fixed}
        parts = [f"inside({text}, {sizes}[{n}]) * a.targets_{index}[{i}].base[{n}]" for n, text in at.items()]
        lines += [f"    if (i == {i}) {{", *printer.lines, f"    return {' + '.join(parts) or '0'};", "    }"]
    return "\n".join([*lines, "    return 0;"])
