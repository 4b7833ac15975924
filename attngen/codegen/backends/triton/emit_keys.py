"""The third kernel of a backward: the gradients of keys and values, a loop over queries for each key tile.

Its tiles are keys x queries from the start: S^T = K Q^T and dP^T = V dO^T. A transposed result of a product would be
one more copy, and some versions of Triton get it wrong on Hopper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from attngen.codegen.backends.triton.config import room
from attngen.codegen.backends.triton.emit_pairs import Pairs, late_factor, times
from attngen.codegen.backends.triton.emit_queries import DotHoles
from attngen.codegen.backends.triton.emit_rows import load_written
from attngen.codegen.backends.triton.emit_scan import Scan
from attngen.codegen.backends.triton.flows import Flow
from attngen.codegen.backends.triton.parts import factored, sums_values
from attngen.codegen.backends.triton.row_state import RowState
from attngen.codegen.backends.triton.scope import Scope
from attngen.codegen.backends.triton.text import before, block, within
from attngen.codegen.backends.triton.visits import Visit
from attngen.codegen.printers.triton import Printer
from attngen.codegen.printers.triton_values import Axes
from attngen.templates import render


@dataclass(frozen=True, slots=True)
class KeysHoles:
    """The holes of keys.py.jinja."""

    title: str
    setup: str
    dots: tuple[DotHoles, ...]
    room: int
    head: str
    loops: str
    flows: str
    store: str


class KeysEmitter:
    """Prints key set `keyset` of branch `index`."""

    def __init__(
        self, scope: Scope, index: int, keyset: int, offset: int, names: Iterator[str], flows: tuple[Flow, ...],
        wanted: frozenset[str],
    ) -> None:  # fmt: skip
        self.scope, self.index, self.at, self.names = scope, index, keyset, names
        self.branch = scope.plan.branches[index]
        self.rows = RowState(scope, index, next(names))
        self.pairs = Pairs(scope, index, keyset, offset, self.rows, names, wanted)
        self.dots = [late_factor(scope, (expr,)) for expr in self.pairs.found.dots]
        self.scan = Scan(self.pairs, keyset) if self.branch.scan else None
        self.flows = [
            flow for flow in flows if (flow.branch, flow.keyset) == (index, keyset) and flow.kind in ("key", "pair")
        ]

    def text(self) -> str:
        """The statements of the key set."""
        pairs, tile, scope = self.pairs, self.pairs.tile, self.scope
        boxed = scope.holds_boxes(pairs.keyset)
        own = [
            "keys = k_first.to(tl.int32) + tl.arange(0, BLOCK_N)",
            "k_last = tl.minimum(k_first + BLOCK_N, n_k) - 1",
            "key_live = keys < n_k",
            *scope.coordinates("kv", "keys"),
            *scope.corners(),
        ]
        if boxed:
            own = [*scope.box_at("kv", "tile"), *scope.in_box("kv", True), *scope.box_ends("kv", "k")]
        setup = [
            *tile.heads,
            *(own if scope.boxed else own[1:]),
            *(f"k_{i} = {tile.load_keys(i)}" for i in range(len(pairs.keyset.dots))),
            f"v = {tile.load_values()}",
        ]
        printer = pairs.printer()
        step = self._step(printer)
        flush = [line for flow in self.flows if flow.kind == "key" for line in self._flush(flow)]
        head = [*pairs.setup([printer]), *(self.scan.setup() if self.scan else [])]
        head += [f"{flow.name} = tl.zeros((BLOCK_N,), tl.float32)" for flow in self.flows if flow.kind == "key"]
        visit = Visit(scope, pairs.keyset, (self.index, self.at), next(self.names))
        width = self.branch.width
        holes = KeysHoles(
            title=f"branch {self.index}, key set {self.at}: {self.branch.normalizer.name}",
            setup="\n".join(setup),
            dots=tuple(
                DotHoles(i, room(dot.width), self._store_dot(i, dot.width)) for i, dot in enumerate(pairs.keyset.dots)
            ),
            room=room(width),
            head=block("\n".join(head)),
            loops=block(visit.text(step)),
            flows=block("\n".join(flush)),
            store=self._store(f"dv_{self.index}_{self.at}", "dv", width),
        )
        return render("triton/keys.py.jinja", holes)

    def _step(self, printer: Printer) -> Callable[[bool], str]:
        pairs, plan = self.pairs, self.scope.plan
        spread = self.scope.layout.spread
        weight = pairs.kept(printer, pairs.found.weight)
        dots = [pairs.kept(printer, expr) for _, (expr,) in self.dots]
        flows = [(flow, pairs.kept(printer, flow.cotangent)) for flow in self.flows]
        places = {flow.name: self.scope.place(flow.load, printer)[0] for flow in self.flows if flow.kind == "pair"}
        summed = sums_values(plan, self.index)
        direct = factored(plan, self.index)
        extra = []
        if summed and not direct:
            extra.append(f"dvsum = {load_written(self.scope, self.index, 'dvsum')}")

        def outputs(sure: bool) -> list[str]:
            lines = [f"w = {weight(sure)}"]
            seen = "tl.full((BLOCK_N, BLOCK_M), 1.0, tl.float32)" if sure else "tl.where(present, 1.0, 0.0)"
            if direct:
                lines.append(f"w = w * {spread('factor', Axes.ROW, Axes.PAIR)}")
                if summed:
                    lines.append(f"w = w + {seen} * {spread('vfactor', Axes.ROW, Axes.PAIR)}")
            elif summed:
                lines.append(f"dv = product_onto(dv, {seen}.to(dvsum.dtype), dvsum)")
            lines.append("dv = product_onto(dv, w.to(dacc.dtype), dacc)")
            for i, value in enumerate(dots):
                lines.append(f"dk_{i} = product_onto(dk_{i}, {value(sure)}.to(query_{i}.dtype), query_{i})")
            for flow, value in flows:
                if flow.kind == "key":
                    lines.append(f"{flow.name} = {flow.name} + tl.sum({value(sure)}, 1)")
                    continue
                live = spread("key_live", Axes.KEY, Axes.PAIR)
                number = f"tl.floor({value(sure)} * tl.load({flow.name}_scale) + 0.5).to(tl.int64)"
                at = f"{flow.name}_table + ({places[flow.name]})"
                zero = "tl.zeros((BLOCK_N, BLOCK_M), tl.int64)"
                lines.append(f'tl.atomic_add({at} + {zero}, {number}, mask={live} & ({number} != 0), sem="relaxed")')
            return lines

        scan = self.scan.here if self.scan else None
        return lambda masked: pairs.text(masked, printer, outputs, extra, scan)

    def _store_dot(self, i: int, width: int) -> str:
        lines, value = times(self.scope, f"dk_{i}", self.dots[i][0], next(self.names))
        return "\n".join([*lines, self._store(f"dk_{self.index}_{self.at}_{i}", value, width)])

    def _store(self, name: str, value: str, width: int) -> str:
        base = f"{name}_data + b * {name}_stride0 + owner * {name}_stride1"
        return f"store_rows({base}, keys, {name}_stride2, key_live, {name}_stride3, {value}, {width}, {room(width)})"

    def _flush(self, flow: Flow) -> list[str]:
        symbols = self.rows.symbols(self.pairs.keyset) | self.scope.pairs(self.pairs.keyset)
        printer = self.scope.printer(symbols, next(self.names))
        place, _ = self.scope.place(flow.load, printer)
        at = "(b * n_h + h) * most_keys + keys"
        return [
            *before(printer),
            *within(printer),
            f"tl.store({flow.name}_values + {at}, {flow.name}, mask=key_live)",
            f"tl.store({flow.name}_places + {at}, keys * 0 + {place}, mask=key_live)",
        ]
