"""The struct of one key set: where its keys and values are, which of them a query tile visits, mask, score, weight."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from attngen.codegen.analysis import AxisRanges, Ranges
from attngen.codegen.backends.cpu.abi import table_name
from attngen.codegen.backends.cpu.scope import Scope, flag
from attngen.codegen.plan import KeySetPlan
from attngen.codegen.printers.cpp import Printer, Rows
from attngen.ir.expr import Expr, Sym
from attngen.templates import render


@dataclass(frozen=True, slots=True)
class KeySetHoles:
    """The holes of keyset.cpp.jinja."""

    name: str
    row: str
    mask_trivial: str
    by_rows: str
    score_trivial: str
    weighted: str
    length: str
    keys: str
    values: str
    segments: str
    full: str
    mask: str
    score: str
    weight: str


def print_keyset(
    scope: Scope, place: tuple[int, int], keyset: KeySetPlan, row: str, rows: Rows, weight: Expr | None
) -> str:
    """The struct KeySet<branch>_<key set>; row-uniform parts go to `rows`."""
    trivial = isinstance(keyset.core, Sym) and keyset.core.name == "dot[0]"
    tokens = f"int64_t({scope.order.tokens})" if scope.order is not None and scope.boxed(keyset) else None
    length = tokens or scope.length("a.", keyset)
    holes = KeySetHoles(
        name=f"KeySet{place[0]}_{place[1]}",
        row=row,
        mask_trivial=flag(not keyset.masked),
        by_rows=flag(keyset.ranges is not None and not keyset.ranges.axes),
        score_trivial=flag(trivial),
        weighted=flag(weight is not None),
        length=length,
        keys=_keys(scope, keyset),
        values=scope.keys_of(keyset.v, keyset.v_start, keyset),
        segments=_segments(scope, place, keyset, length),
        full=_full(scope, place, keyset),
        mask=_lanes(scope, keyset, rows, scope.exists(keyset), "bool"),
        score=_lanes(scope, keyset, rows, keyset.core, "float"),
        weight="    return splat(real(1));" if weight is None else _lanes(scope, keyset, rows, weight, "float"),
    )
    return render("cpp/keyset.cpp.jinja", holes)


def _lanes(scope: Scope, keyset: KeySetPlan, rows: Rows, expr: Expr, type: str) -> str:
    printer = scope.printer(scope.keys(keyset), args="row.args->", rows=rows)
    return printer.body(expr, "bool" if type == "bool" else "float", vector=True)


def _keys(scope: Scope, keyset: KeySetPlan) -> str:
    parts = []
    for i, dot in enumerate(keyset.dots):
        condition = f"if constexpr (I == {i}) {{\n" if i + 1 < len(keyset.dots) else "{\n"
        parts.append(condition + scope.keys_of(dot.k, dot.k_start, keyset) + "\n    }")
    return "    " + " else ".join(parts)


def _segments(scope: Scope, place: tuple[int, int], keyset: KeySetPlan, length: str) -> str:
    ranges = keyset.ranges
    if not keyset.masked:
        return f"    if ({length} > 0) f(0L, (long){length});"
    if ranges is None:
        table = table_name(*place)
        return "\n".join(
            [
                _table_row(place),
                "    const int64_t last = (q_end - 1) / Tile::QT - q_begin / Tile::QT + row;",
                f"    visit_table<Tile::G + 1>(a.{table}, row, last, f);",
            ]
        )
    printer, lines = _tile_printer(scope, keyset)
    if ranges.axes:
        return "\n".join([*lines, _box_segments(scope, printer, ranges)])
    bounds = [(_bound(printer, low), _bound(printer, high)) for low, high in ranges.outer]
    if not bounds:
        return "\n".join([*lines, "    (void)f;"])
    return "\n".join(
        [
            *lines,
            *printer.lines,
            f"    int64_t begin[] = {{{', '.join(b for b, _ in bounds)}}};",
            f"    int64_t end[] = {{{', '.join(e for _, e in bounds)}}};",
            f"    visit_union(begin, end, {length}, f);",
        ]
    )


def _full(scope: Scope, place: tuple[int, int], keyset: KeySetPlan) -> str:
    if not keyset.masked:
        return "    return true;"
    if keyset.ranges is None:
        full = f"table_full(a.{table_name(*place)}, {{}}, k_begin, k_end)"
        second = ""
        if scope.plan.packed:
            # Tiles of packed sequences begin anywhere, and may reach into a second row of the table.
            second = f" && ((q_end - 1) / Tile::QT == q_begin / Tile::QT || {full.format('row + 1')})"
        return f"{_table_row(place)}\n    return {full.format('row')}{second};"
    printer, lines = _tile_printer(scope, keyset)
    if keyset.ranges.axes:
        return "\n".join([*lines, _box_full(scope, printer, keyset.ranges)])
    tests = [
        f"({_bound(printer, low)} <= k_begin && k_end <= {_bound(printer, high)})" for low, high in keyset.ranges.inner
    ]
    return "\n".join([*lines, *printer.lines, f"    return {' || '.join(tests) or 'false'};"])


def _table_row(place: tuple[int, int]) -> str:
    return f"    const int64_t row = table_row(a.{table_name(*place)}, a.call, b, h, q_begin, Tile::QT);"


def _tile_printer(scope: Scope, keyset: KeySetPlan) -> tuple[Printer, list[str]]:
    """A printer over tile bounds, and the statements that define them: flat ones, and coordinates on a grid."""
    lines = ["    const int64_t q_first = q_begin, q_last = q_end - 1;", *_span(scope, "q", "q_first", "q_last")]
    return scope.printer(scope.tile(keyset), args="a."), lines


def _span(scope: Scope, name: str, first: str, last: str) -> list[str]:
    """Statements for the first and the last coordinates, {name}_first_0 and so on, of tokens `first` to `last`.

    They cover, along an axis, what their ends say while all slower coordinates agree, and all of it otherwise. Tokens
    in boxes cover all of each box, padding included.
    """
    order = scope.order
    counts, sides = (scope.dims, (1,) * scope.rank) if order is None else (order.counts, order.sides)
    volume = 1 if order is None else order.volume
    lines: list[str] = []
    for i, (count, side) in enumerate(zip(counts, sides, strict=True)):
        step = volume * prod(counts[i + 1 :])
        outer = step * count
        same = "true" if i == 0 else f"{first} / {outer} == {last} / {outer}"
        lines.append(f"    const bool {name}_same_{i} = {same};")
        begin, end = f"{first} / {step} % {count} * {side}", f"{last} / {step} % {count} * {side} + {side - 1}"
        lines.append(f"    const int64_t {name}_first_{i} = {name}_same_{i} ? {begin} : 0;")
        lines.append(f"    const int64_t {name}_last_{i} = {name}_same_{i} ? {end} : {count * side - 1};")
    return lines


def _bound(printer: Printer, expr: Expr) -> str:
    return printer.emit(expr).cast("int").text


def _box_segments(scope: Scope, printer: Printer, ranges: Ranges) -> str:
    """Nested loops over the slower axes; along the fastest one, intervals of consecutive keys, or of boxes of them."""
    if not all(axis.outer for axis in ranges.axes):
        return "    (void)f;"
    order = scope.order
    counts, volume = (scope.dims, 1) if order is None else (order.counts, order.volume)
    depth = len(ranges.axes)
    lines: list[str] = []
    for i, axis in enumerate(ranges.axes):
        bounds = [(_bound(printer, low), _bound(printer, high)) for low, high in axis.outer]
        lines.append(f"    int64_t begin_{i}[] = {{{', '.join(b for b, _ in bounds)}}};")
        lines.append(f"    int64_t end_{i}[] = {{{', '.join(e for _, e in bounds)}}};")
        if order is not None:
            lines.append(f"    to_boxes(begin_{i}, end_{i}, {order.sides[i]});")
    lines = [*printer.lines, *lines]
    flat = "0"
    for i in range(depth - 1):
        pad = "    " * (i + 1)
        lines.append(f"{pad}visit_union(begin_{i}, end_{i}, {counts[i]}, [&](long low_{i}, long high_{i}) {{")
        lines.append(f"{pad}for (long at_{i} = low_{i}; at_{i} < high_{i}; at_{i}++) {{")
        flat = f"({flat} + at_{i}) * {counts[i + 1]}"
    last = depth - 1
    pad = "    " * depth
    lines.append(
        f"{pad}visit_union(begin_{last}, end_{last}, {counts[last]}, "
        f"[&](long low, long high) {{ f(({flat} + low) * {volume}, ({flat} + high) * {volume}); }});"
    )
    lines.extend("    " * (i + 1) + "} });" for i in range(depth - 2, -1, -1))
    return "\n".join(lines)


def _box_full(scope: Scope, printer: Printer, ranges: Ranges) -> str:
    """The tile of keys spans a box of the grid; it is full where every axis of the box lies in one inner interval."""
    lines = _span(scope, "k", "k_begin", "(k_end - 1)")
    tests = [_inside(printer, axis, i) for i, axis in enumerate(ranges.axes)]
    if scope.order is not None:
        # Queries past the edge see nothing.
        tests += [f"q_last_{i} < {dim}" for i, dim in enumerate(scope.dims) if scope.order.padded(i)]
    return "\n".join([*lines, *printer.lines, f"    return {' && '.join(tests)};"])


def _inside(printer: Printer, axis: AxisRanges, i: int) -> str:
    options = [
        f"({_bound(printer, low)} <= k_first_{i} && k_last_{i} < {_bound(printer, high)})" for low, high in axis.inner
    ]
    return f"({' || '.join(options) or 'false'})"
