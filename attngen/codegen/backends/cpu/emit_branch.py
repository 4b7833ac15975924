"""The struct of one branch: its row values, its normalizer and its key sets."""

from __future__ import annotations

from dataclasses import dataclass

from attngen.codegen.backends.cpu.emit_keyset import print_keyset
from attngen.codegen.backends.cpu.emit_passes import print_pass
from attngen.codegen.backends.cpu.rules import Rules
from attngen.codegen.backends.cpu.scope import ROW_SYMBOLS, Scope, flag
from attngen.codegen.derive.backward import with_coefficient
from attngen.codegen.plan import BranchPlan, KeySetPlan
from attngen.codegen.printers.cpp import SCALAR, Rows
from attngen.codegen.saved import saved_offset
from attngen.ir.expr import Expr, op, sym
from attngen.templates import render

LOG_SUM_EXP: Expr = op("add", sym("m"), op("log", sym("mass")))


@dataclass(frozen=True, slots=True)
class BranchHoles:
    """The holes of branch.cpp.jinja."""

    name: str
    row: str
    fields: str
    keysets: str
    pass_structs: str
    element: str
    dots: int
    width: int
    offset: int
    widths: str
    anchored: str
    anchor_trivial: str
    affine_exp2: str
    has_mass: str
    drops_massless: str
    psi_is_phi: str
    counts: str
    sums_values: str
    has_sink: str
    gives_lse: str
    plain_lse: str
    adjust: str
    pass_slots: int
    passes: int
    scans: str
    descends: str
    fades: str
    sparse: str
    saved_offset: int
    saves_acc: str
    saves_vsum: str
    row_body: str
    queries: str
    each_keyset: str
    each_pass: str
    alpha: str
    sink: str
    sink_anchor: str
    sink_term: str
    anchor: str
    shift: str
    keep: str
    phi: str
    psi: str
    finalize: str
    lse: str
    visible: str
    keep_visible: str
    row_call: str


def print_branch(scope: Scope, index: int, branch: BranchPlan, offset: int) -> str:
    """The row struct, the key set structs, the pass structs and the branch struct."""
    normalizer = branch.last
    row = f"Row{index}"
    rows = [Rows(ROW_SYMBOLS, f"r{j}_") for j in range(len(branch.keysets))]
    main = branch.keysets[0]
    keysets = [print_keyset(scope, (index, j), k, row, rows[j], branch.weight) for j, k in enumerate(branch.keysets)]
    rules = Rules(scope, branch, rows[0])
    passes = [print_pass(rules, f"Pass{index}_{k}", row, k, one) for k, one in enumerate(branch.passes)]
    psi, lse, sink = normalizer.psi, normalizer.lse, branch.sink
    # In powers of two the driver has already added the adjustment.
    anchor = "totals.anchor" if branch.exponential else "(totals.anchor + adjust)"
    totals = {"m": anchor, "mass": "totals.mass", "count": "totals.count"}
    order = list(range(len(branch.keysets)))
    descends = branch.scan is not None and branch.scan.direction == "backward"
    if descends:
        order.reverse()
    holes = BranchHoles(
        name=f"Branch{index}",
        row=row,
        keysets="\n".join(keysets),
        pass_structs="\n".join(passes),
        element=scope.element,
        dots=len(main.dots),
        width=branch.width,
        offset=offset,
        widths=_choose([str(dot.width) for dot in main.dots]),
        anchored=flag(normalizer.anchor is not None),
        anchor_trivial=flag(normalizer.anchor == sym("s")),
        affine_exp2=flag(branch.exponential),
        has_mass=flag(psi is not None),
        drops_massless=flag(branch.drops_massless),
        psi_is_phi=flag(psi == normalizer.phi),
        counts=flag(branch.needs_count),
        sums_values=flag(branch.needs_vsum),
        has_sink=flag(sink is not None),
        gives_lse=flag(lse is not None),
        plain_lse=flag(branch.exponential and lse == LOG_SUM_EXP),
        adjust=repr(normalizer.offset),
        pass_slots=max(1, len(branch.passes)),
        passes=len(branch.passes),
        scans=flag(branch.scan is not None),
        descends=flag(descends),
        fades=flag(branch.scan is not None and branch.scan.fades),
        sparse=flag(branch.scan is not None or any(one.kind == "root" for one in branch.passes)),
        saved_offset=saved_offset(scope.plan, index),
        saves_acc=flag("acc" in branch.saves),
        saves_vsum=flag("vsum" in branch.saves),
        queries=_choose_dots(scope, main),
        each_keyset=" ".join(f"f(KeySet{index}_{j}{{}});" for j in order),
        each_pass=" ".join(f"f(Pass{index}_{k}{{}});" for k in range(len(branch.passes))) or "(void)f;",
        alpha=rules.number(main.alpha),
        sink=rules.number(None if sink is None else sink.score),
        sink_anchor=rules.number(None if sink is None else sink.anchor),
        sink_term=rules.number(None if sink is None else sink.term, m="(m + adjust)"),
        anchor="    return s;" if normalizer.anchor is None else rules.lanes(normalizer.anchor),
        shift=f"exp(real({branch.decay_rate!r}) * (from - to))" if branch.decay_rate else "1",
        keep=rules.lanes(None if branch.scan is None else branch.scan.keep),
        phi=rules.lanes(normalizer.phi, m="(m + adjust)"),
        psi=rules.lanes(psi, m="(m + adjust)"),
        finalize=rules.finalize(with_coefficient(scope.plan, index, normalizer.finalize), **totals),
        lse=rules.number(lse, **totals),
        visible="  int64_t visible;\n" if branch.needs_visible else "",
        keep_visible="    row.visible = visible;\n" if branch.needs_visible else "",
        row_call=_row_call(index, branch.needs_visible),
        fields="\n".join(_fields(r) for r in rows),
        row_body="\n".join(row_body(scope, k, r) for k, r in zip(branch.keysets, rows, strict=True)),
    )
    return render("cpp/branch.cpp.jinja", holes)


def _row_call(index: int, counted: bool) -> str:
    if not counted:
        return "row_of(head, q, 0)"
    # What masks read does not depend on the count, so a row made without it serves to count.
    return f"row_of(head, q, visible_keys<Branch{index}>(*head.args, row_of(head, q, 0)))"


def _fields(rows: Rows) -> str:
    return "\n".join(f"  {SCALAR[expr.type]} {name};" for expr, name in rows.fields.items())


def row_body(scope: Scope, keyset: KeySetPlan, rows: Rows) -> str:
    """Statements that compute the fields of a row."""
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
        parts.append(condition + scope.rows_of(dot.q, dot.q_start, keyset, scope.order is not None) + "\n    }")
    return "\n".join(parts)
