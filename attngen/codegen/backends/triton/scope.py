"""What generated Triton may name: the variables behind the symbols of an expression, and the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from attngen.codegen.calls.arguments import Arguments
from attngen.codegen.plan import KeySetPlan, Plan
from attngen.codegen.printers.triton import Printer
from attngen.codegen.printers.triton_ops import join
from attngen.codegen.printers.triton_values import Axes, Layout, Value, dtype_of
from attngen.ir.expr import Load
from attngen.ir.nodes import Grid, Paged, View
from attngen.ir.signs import Spans

TILE = Layout()


@dataclass(frozen=True, slots=True)
class Scope:
    """One kernel: its plan and its arguments."""

    plan: Plan
    arguments: Arguments

    @property
    def dims(self) -> tuple[int, ...]:
        space = self.plan.spec.space
        return space.dims if isinstance(space, Grid) else ()

    def sizes(self, keyset: KeySetPlan) -> dict[str, Value]:
        """The sizes of the call."""
        named = {name: Value(name, "int") for name in ("n_b", "n_h", "n_q")}
        return named | {"n_k": Value("n_k", "int")}

    def length(self, keyset: KeySetPlan) -> str:
        """The number of keys of the batch."""
        space = self.pages(keyset)
        if space is None:
            return f"{self.arguments.field(keyset.v.tensor)}_size2"
        return f"tl.load({self.entry(space.lengths)}).to(tl.int64)"

    def entry(self, name: str) -> str:
        """A pointer to what an input says of the batch."""
        field = self.arguments.field(name)
        return f"({field}_data + inside(b, {field}_size0) * {field}_stride0)"

    def pages(self, keyset: KeySetPlan) -> Paged | None:
        """The space, where the keys of the set are those that it speaks of."""
        space = self.plan.spec.space
        main = any(keyset is branch.keysets[0] for branch in self.plan.branches)
        return space if isinstance(space, Paged) and main else None

    def task(self, keyset: KeySetPlan) -> dict[str, Value]:
        """Symbols of a whole task."""
        symbols = {name: Value(name, "int") for name in ("b", "h", "q_first", "q_last")} | self.sizes(keyset)
        for i in range(len(self.dims)):
            symbols |= {f"{end}[{i}]": Value(f"{end}_{i}", "int") for end in ("q_first", "q_last")}
        return symbols

    def rows(self, keyset: KeySetPlan) -> dict[str, Value]:
        """Symbols of the rows of a tile."""
        names = {"q": "q"} | {f"q[{i}]": f"q_{i}" for i in range(len(self.dims))}
        rows = {symbol: Value(name, "int", Axes.ROW) for symbol, name in names.items()}
        return self.task(keyset) | rows | {"n_visible": Value("visible", "int", Axes.ROW)}

    def pairs(self, keyset: KeySetPlan) -> dict[str, Value]:
        """Symbols of a tile of rows and keys."""
        names = {"kv": "keys"} | {f"kv[{i}]": f"kv_{i}" for i in range(len(self.dims))}
        keys = {symbol: Value(name, "int", Axes.KEY) for symbol, name in names.items()}
        dots = {f"dot[{i}]": Value(f"dot_{i}", "float", Axes.PAIR) for i in range(len(keyset.dots))}
        return self.rows(keyset) | keys | dots

    def printer(
        self, symbols: Mapping[str, Value], prefix: str, layout: Layout = TILE, given: Spans | None = None
    ) -> Printer:
        """A printer whose temporaries begin with `prefix`."""
        return Printer(symbols, self._load, layout, prefix, given or {})

    def _load(self, node: Load, indices: tuple[Value, ...]) -> Value:
        field = self.arguments.field(node.tensor)
        if node.tensor in (*self.arguments.ints, *self.arguments.floats):
            return Value(f"({field} != 0)" if node.type == "bool" else field, node.type)
        shape, moves = join(indices)
        terms = []
        for n, index in enumerate(indices):
            at = f"inside({index.typed(shape)}, {field}_size{n}) * {field}_stride{n}"
            terms.append(TILE.spread(f"({at})", index.shape, shape))
        function = "look_up" if shape is Axes.PAIR else "tl.load"
        read = f"{function}({field}_data + {' + '.join(terms) or '0'})"
        return Value(
            f"({read} != 0)" if node.type == "bool" else f"{read}.to({dtype_of(node.type, shape)})",
            node.type,
            shape,
            moves,
        )

    def coordinates(self, name: str, flat: str) -> list[str]:
        """Statements for the coordinates of positions on the grid, which are never negative."""
        lines, below = [], 1
        for i, size in reversed(list(enumerate(self.dims))):
            text = flat if below == 1 else f"{flat} // {below}"
            lines.append(f"{name}_{i} = {text} % {size}" if i else f"{name}_{i} = {text}")
            below *= size
        return lines

    def head(self, view: View, keyset: KeySetPlan, lines: list[str], prefix: str) -> str:
        """The head of its tensor that a view reads; statements go to `lines`."""
        name = self.arguments.field(view.tensor)
        if view.head is None:
            return f"(h * {name}_size1 // n_h)"
        symbols = {"h": Value("h", "int"), "heads": Value(f"{name}_size1", "int")}
        printer = self.printer(self.sizes(keyset) | symbols, prefix)
        value = printer.emit(view.head)
        lines += printer.lines[Axes.NONE]
        return f"inside({value.typed(Axes.NONE)}, {name}_size1)"
