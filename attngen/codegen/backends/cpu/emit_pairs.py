"""The struct of one key set in the backward: what a pair of query and key hands out."""

from __future__ import annotations

from dataclasses import dataclass

from attngen.codegen.backends.cpu.emit_flows import Flow, flush_lines, pair_flow
from attngen.codegen.backends.cpu.scope import Scope, flag
from attngen.codegen.derive.backward import PairGradient, pair_gradient, score_of
from attngen.codegen.plan import EXP, BranchPlan, KeySetPlan
from attngen.codegen.printers.cpp import Printer, Rows, Value
from attngen.codegen.targets import Target
from attngen.ir.expr import Expr, Sym, substitute
from attngen.ir.nodes import View
from attngen.templates import render


@dataclass(frozen=True, slots=True)
class PairHoles:
    """The holes of keyset_gradient.cpp.jinja."""

    name: str
    row: str
    sums: int
    score_trivial: str
    pair: str
    flush: str
    passes: str
    keep: str
    before_share: str
    keys: str
    values: str


@dataclass(frozen=True, slots=True)
class PairPrinter:
    """Prints the functions of one key set of branch `index`."""

    scope: Scope
    index: int
    branch: BranchPlan
    keyset: KeySetPlan
    rows: Rows
    targets: tuple[Target, ...]
    wanted: frozenset[str]

    def struct(self, name: str, row: str) -> str:
        """The whole struct."""
        found = pair_gradient(self.branch, self.keyset, self.wanted)
        body, flows = self._pair(found)
        sums = [flow for flow in flows if flow.of_row]
        trivial = isinstance(self.keyset.core, Sym) and self.keyset.core.name == "dot[0]"
        boxed = self.scope.boxed(self.keyset)
        holes = PairHoles(
            name=name,
            row=row,
            sums=max(1, len(sums)),
            score_trivial=flag(trivial),
            pair=body,
            flush=self._flush(sums),
            passes=self._passes(found),
            keep=self._one(found.keep),
            before_share=self._one(found.before if self.branch.scan else None),
            keys="\n".join(
                choose(i, len(self.keyset.dots), total_rows(self.scope, dot.k, dot.k_start, self.keyset, boxed))
                for i, dot in enumerate(self.keyset.dots)
            ),
            values=total_rows(self.scope, self.keyset.v, self.keyset.v_start, self.keyset, boxed),
        )
        return render("cpp/keyset_gradient.cpp.jinja", holes)

    def _printer(self) -> Printer:
        """A printer that knows the pair: core score, whether the key takes part, the weight of an exponential."""
        last = self.branch.last
        anchor = f"(row.m + real({last.offset!r}))" if last.offset else "row.m"
        symbols = self.scope.keys(self.keyset) | {
            "m": Value(anchor, "float"),
            "dmass": Value("row.dmass", "float"),
            **{name: Value(name, "float", True) for name in ("dp", "before", "dbefore")},
            **{
                f"{name}[{k}]": Value(f"row.{field}[{k}]", "float")
                for name, field in (("m", "pass_m"), ("r", "pass_r"), ("dr", "dr"))
                for k in range(len(self.branch.passes))
            },
        }
        printer = self.scope.printer(symbols, args="row.args->", rows=self.rows)
        core = printer.emit(self.keyset.core).widen()
        printer.lines.append(f"    const vb live = SURE ? keys.live : keys.live & vb({core.text} != -INF);")
        if self.branch.exponential:
            printer.lines.append(f"    const vf p = forward_weight<HUGE, Branch{self.index}>(row, {core.text});")
            weight = substitute(EXP, {"s": score_of(self.keyset)})
            printer.define(weight, Value("p", "float", True))
        return printer

    def _pair(self, found: PairGradient) -> tuple[str, list[Flow]]:
        printer = self._printer()

        def put(to: str, expr: Expr) -> None:
            value = printer.emit(expr).cast("float").widen()
            printer.lines.append(f"    {to} = kept<SURE>(live, {value.text});")

        put("weight", found.weight)
        for i, expr in enumerate(found.dots):
            put(f"ddots[{i}]", expr)
        flows: list[Flow] = []
        for load, cotangent in found.loads:
            value = printer.emit(cotangent).cast("float").widen()
            place = next(i for i, target in enumerate(self.targets) if target.load == load)
            slot = sum(flow.of_row for flow in flows)
            flows.append(pair_flow(self.scope, printer, self.targets[place], (self.index, place), value, slot, "SURE"))
        return "\n".join(printer.lines), flows

    def _flush(self, flows: list[Flow]) -> str:
        symbols = self.scope.keys(self.keyset)
        return "\n".join(flush_lines(self.scope, symbols, self.rows, self.index, self.targets, flows))

    def _passes(self, found: PairGradient) -> str:
        parts: list[str] = []
        for k, one in enumerate(found.passes):
            printer = self._printer()
            share = printer.emit(one.share).cast("float").widen()
            printer.lines.append(f"    total += kept<SURE>(live, {share.text});")
            if one.slope is not None:
                slope = printer.emit(one.slope).cast("float").widen()
                printer.lines.append(f"    slopes += kept<SURE>(live, {slope.text});")
            parts.append(f"    if constexpr (K == {k}) {{\n" + "\n".join(printer.lines) + "\n    }")
        return "\n".join(parts)

    def _one(self, expr: Expr | None) -> str:
        if expr is None:
            return "    return vf{};"
        printer = self._printer()
        value = printer.emit(expr).cast("float").widen()
        return "\n".join([*printer.lines, f"    return kept<SURE>(live, {value.text});"])


def choose(i: int, count: int, body: str) -> str:
    """One case of a function template over I."""
    return (f"    if constexpr (I == {i}) {{\n" if i + 1 < count else "    {\n") + body + "\n    }"


def total_rows(scope: Scope, view: View, start: int, keyset: KeySetPlan, boxed: bool) -> str:
    """The body of a function (a, b, h) that gives the rows of the total that a view adds to, perhaps in boxes."""
    name = scope.arguments.field(view.tensor)
    lines, head = scope.head_of(view, keyset)
    space = scope.pages(keyset)
    if space is not None and view.tensor in ("k", "v"):
        data = f"(real*)a.d_{name}_data + {start}"
        return "\n".join([*lines, scope.paged_rows(space, "real", data, head, f"a.d_{name}")])
    strides = ", ".join(f"a.d_{name}_stride[{i}]" for i in range(4))
    rows = f"rows_of<real>(Tensor{{(real*)a.d_{name}_data + {start}, {{{strides}}}}}, b, {head})"
    lines.append(f"    return {scope.in_order(rows, boxed)};")
    return "\n".join(lines)
