"""The structs of the passes before the last one."""

from __future__ import annotations

from dataclasses import dataclass

from attngen.codegen.backends.cpu.rules import ZERO_VECTOR, Rules
from attngen.codegen.backends.cpu.scope import flag
from attngen.codegen.derive.gradient import derivative
from attngen.codegen.derive.passes import PassPlan
from attngen.ir.expr import sym
from attngen.templates import render


@dataclass(frozen=True, slots=True)
class PassHoles:
    """The holes of pass.cpp.jinja."""

    name: str
    row: str
    index: int
    anchored: str
    anchor_trivial: str
    root: str
    sums: str
    has_sink: str
    power: str
    anchor: str
    term: str
    low: str
    high: str
    sink: str
    sink_anchor: str
    sink_term: str


def print_pass(rules: Rules, name: str, row: str, index: int, one: PassPlan) -> str:
    """The struct of pass `index`."""
    term, sink = one.term, one.sink
    slope = derivative(term, f"r[{index}]") if term is not None and one.kind == "root" else None
    holes = PassHoles(
        name=name,
        row=row,
        index=index,
        anchored=flag(one.anchor is not None),
        anchor_trivial=flag(one.anchor == sym("s")),
        root=flag(one.kind == "root"),
        sums=flag(term is not None),
        has_sink=flag(sink is not None),
        power=f"real({one.power!r})",
        anchor="    return s;" if one.anchor is None else rules.lanes(one.anchor),
        term=ZERO_VECTOR if term is None else rules.with_slope(term, slope),
        low=rules.number(one.low, count="count"),
        high=rules.number(one.high, count="count"),
        sink=rules.number(None if sink is None else sink.score),
        sink_anchor=rules.number(None if sink is None else sink.anchor),
        sink_term=rules.number(None if sink is None else sink.term),
    )
    return render("cpp/pass.cpp.jinja", holes)
