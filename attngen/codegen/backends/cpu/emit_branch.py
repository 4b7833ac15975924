"""The struct of one branch: its row values, its normalizer and its key sets."""

from __future__ import annotations

from dataclasses import dataclass

from attngen.codegen.backends.cpu.emit_keyset import print_keyset
from attngen.codegen.backends.cpu.scope import ROW_SYMBOLS, Scope, flag
from attngen.codegen.plan import BranchPlan, KeySetPlan
from attngen.codegen.printers.cpp import SCALAR, Rows, Value
from attngen.ir.expr import Expr, const, op, sym
from attngen.ir.nodes import Affine
from attngen.ir.normalizer import Streaming
from attngen.templates import render

ZERO_VECTOR = "    return vf{};"
ZERO = "    return 0;"


@dataclass(frozen=True, slots=True)
class BranchHoles:
    """The holes of branch.cpp.jinja."""

    name: str
    row: str
    fields: str
    keysets: str
    element: str
    dots: int
    width: int
    offset: int
    widths: str
    anchored: str
    anchor_trivial: str
    affine_exp2: str
    has_mass: str
    psi_is_phi: str
    counts: str
    sums_values: str
    has_sink: str
    gives_lse: str
    adjust: str
    row_body: str
    queries: str
    each_keyset: str
    alpha: str
    sink: str
    anchor: str
    anchor_scalar: str
    shift: str
    phi: str
    psi: str
    psi_scalar: str
    finalize: str
    lse: str


def print_branch(scope: Scope, index: int, branch: BranchPlan, offset: int) -> str:
    """The row struct, the key set structs and the branch struct."""
    normalizer = branch.normalizer
    assert isinstance(normalizer, Streaming)
    row = f"Row{index}"
    rows = [Rows(ROW_SYMBOLS, f"r{j}_") for j in range(len(branch.keysets))]
    main = branch.keysets[0]
    keysets = [print_keyset(scope, (index, j), k, row, rows[j], branch.weight) for j, k in enumerate(branch.keysets)]
    body = _Body(scope, main, rows[0])
    psi = normalizer.psi
    holes = BranchHoles(
        name=f"Branch{index}",
        row=row,
        keysets="\n".join(keysets),
        element=scope.element,
        dots=len(main.dots),
        width=branch.width,
        offset=offset,
        widths=_choose([str(dot.width) for dot in main.dots]),
        anchored=flag(normalizer.anchor is not None),
        anchor_trivial=flag(normalizer.anchor == sym("s")),
        affine_exp2=flag(branch.exponential),
        has_mass=flag(psi is not None),
        psi_is_phi=flag(psi == normalizer.phi),
        counts=flag(branch.needs_count),
        sums_values=flag(branch.needs_vsum),
        has_sink=flag(normalizer.sink is not None),
        gives_lse=flag(normalizer.lse is not None),
        adjust=repr(normalizer.offset),
        queries=_choose_dots(scope, main),
        each_keyset=" ".join(f"f(KeySet{index}_{j}{{}});" for j in range(len(branch.keysets))),
        alpha=body.scalar(main.alpha),
        sink=ZERO if normalizer.sink is None else body.scalar(normalizer.sink),
        anchor="    return s;" if normalizer.anchor is None else body.lanes(normalizer.anchor),
        anchor_scalar="    return s;" if normalizer.anchor is None else body.one(normalizer.anchor),
        shift=f"exp(real({branch.decay_rate!r}) * (from - to))" if branch.decay_rate else "1",
        phi=body.anchored(normalizer.phi),
        psi=ZERO_VECTOR if psi is None else body.anchored(psi),
        psi_scalar=ZERO if psi is None else body.anchored_one(psi),
        finalize=body.finalize(_with_coefficient(scope, index, normalizer.finalize), branch.exponential),
        lse=ZERO if normalizer.lse is None else body.totals(normalizer.lse, branch.exponential),
        fields="\n".join(_fields(r) for r in rows),
        row_body="\n".join(_row_body(scope, k, r) for k, r in zip(branch.keysets, rows, strict=True)),
    )
    return render("cpp/branch.cpp.jinja", holes)


@dataclass
class _Body:
    """Prints the functions of a normalizer."""

    scope: Scope
    keyset: KeySetPlan
    rows: Rows

    def _print(self, expr: Expr, symbols: dict[str, Value], *, vector: bool, lane: str = "") -> str:
        printer = self.scope.printer(symbols, args="row.args->", rows=self.rows, lane=lane, lanes="columns")
        return printer.body(expr, "float", vector=vector)

    def scalar(self, expr: Expr) -> str:
        return self._print(expr, {}, vector=False)

    def lanes(self, expr: Expr) -> str:
        return self._print(expr, {"s": Value("s", "float", True)}, vector=True)

    def one(self, expr: Expr) -> str:
        return self._print(expr, {"s": Value("s", "float")}, vector=False)

    def anchored(self, expr: Expr) -> str:
        symbols = {"s": Value("s", "float", True), "m": Value("(m + adjust)", "float")}
        return self._print(expr, symbols, vector=True)

    def anchored_one(self, expr: Expr) -> str:
        return self._print(expr, {"s": Value("s", "float"), "m": Value("(m + adjust)", "float")}, vector=False)

    def _row_totals(self, exponential: bool) -> dict[str, Value]:
        # In powers of two the driver has already added the adjustment.
        anchor = "totals.anchor" if exponential else "(totals.anchor + adjust)"
        return {
            "m": Value(anchor, "float"),
            "mass": Value("totals.mass", "float"),
            "count": Value("totals.count", "float"),
        }

    def totals(self, expr: Expr, exponential: bool) -> str:
        return self._print(expr, self._row_totals(exponential), vector=False)

    def finalize(self, expr: Expr, exponential: bool) -> str:
        symbols = self._row_totals(exponential) | {
            "acc": Value("acc", "float", True),
            "vsum": Value("vsum", "float", True),
            "dim": Value("columns.index", "int", True),
        }
        columns = "    const Keys columns = {iota() + (integer)dim, dim, W, lanes(true)};\n"
        return columns + self._print(expr, symbols, vector=True, lane="dim")


def _with_coefficient(scope: Scope, index: int, finalize: Expr) -> Expr:
    combine = scope.plan.spec.combine
    if not isinstance(combine, Affine) or combine.coefficients[index] == const(1.0):
        return finalize
    return op("mul", finalize, combine.coefficients[index])


def _fields(rows: Rows) -> str:
    return "\n".join(f"  {SCALAR[expr.type]} {name};" for expr, name in rows.fields.items())


def _row_body(scope: Scope, keyset: KeySetPlan, rows: Rows) -> str:
    printer = scope.printer(scope.row(keyset), args="a.")
    for expr, name in rows.fields.items():
        value = printer.emit(expr).cast(expr.type)
        printer.lines.append(f"    row.{name} = {value.text};")
    return "    {\n" + "\n".join(printer.lines) + "\n    }"


def _choose(texts: list[str]) -> str:
    result = texts[-1]
    for i in range(len(texts) - 2, -1, -1):
        result = f"i == {i} ? {texts[i]} : {result}"
    return result


def _choose_dots(scope: Scope, keyset: KeySetPlan) -> str:
    parts = []
    for i, dot in enumerate(keyset.dots):
        condition = f"    if constexpr (I == {i}) {{\n" if i + 1 < len(keyset.dots) else "    {\n"
        parts.append(condition + scope.rows_of(dot.q, dot.q_start, keyset) + "\n    }")
    return "\n".join(parts)
