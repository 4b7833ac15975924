"""What generated C++ may name: the variables behind the symbols of each kind of function, and the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from attngen.codegen.backends.cpu.loads import CTYPES, print_load
from attngen.codegen.boxes import Boxes
from attngen.codegen.calls.arguments import Arguments
from attngen.codegen.plan import KeySetPlan, Plan
from attngen.codegen.printers.cpp import LoadPrinter, Printer, Rows, Value
from attngen.ir.expr import Expr, Load, op, sym
from attngen.ir.nodes import Grid, Paged, View

ELEMENT = {"fp64": "double", "fp32": "float", "bf16": "bf16", "fp16": "f16"}
ROW_SYMBOLS = frozenset({"b", "h", "q", "q[0]", "q[1]", "q[2]", "n_q", "n_k", "n_b", "n_h", "n_visible"})


def flag(value: bool) -> str:
    """A C++ bool."""
    return "true" if value else "false"


@dataclass(frozen=True, slots=True)
class Scope:
    """One kernel: its plan and its argument block."""

    plan: Plan
    arguments: Arguments

    @property
    def element(self) -> str:
        return ELEMENT[self.plan.problem.dtype]

    def sizes(self, args: str, keyset: KeySetPlan, b: str = "b") -> dict[str, Value]:
        """The sizes of the call, where `b` is the batch."""
        return {
            "n_b": Value(f"{args}call.batch", "int"),
            "n_h": Value(f"{args}call.heads", "int"),
            "n_q": Value(self.queries(args), "int"),
            "n_k": Value(self.length(args, keyset, b), "int"),
        }

    @property
    def order(self) -> Boxes | None:
        """The order of the tokens of a grid, where it is not row by row."""
        return self.plan.order

    def boxed(self, keyset: KeySetPlan) -> bool:
        """Whether the keys of the set are counted in the order of boxes."""
        return self.order is not None and isinstance(keyset.space, Grid)

    def queries(self, args: str) -> str:
        """The number of queries."""
        return f"{args}call.queries" if self.order is None else f"int64_t({prod(self.order.dims)})"

    def rows_type(self, element: str, boxed: bool) -> str:
        """The type of the tokens of a head."""
        return f"BoxRows<{element}, Boxes>" if boxed else f"Rows<{element}>"

    def boxes(self) -> str:
        """The declaration of the C++ type of the order."""
        assert self.order is not None
        missing = [1] * (3 - self.rank)
        numbers = ", ".join(map(str, (*missing, *self.order.dims, *missing, *self.order.sides)))
        return f"typedef BoxOrder<{numbers}> Boxes;\n"

    def pages(self, keyset: KeySetPlan) -> Paged | None:
        """The space, where the keys of the set are those that it speaks of."""
        space = self.plan.spec.space
        main = any(keyset is branch.keysets[0] for branch in self.plan.branches)
        return space if isinstance(space, Paged) and main else None

    def length(self, args: str, keyset: KeySetPlan, b: str = "b") -> str:
        """The number of keys of a batch."""
        space = self.pages(keyset)
        if self.boxed(keyset):
            return self.queries(args)
        if space is None:
            return f"{args}{self.arguments.field(keyset.v.tensor)}_size[2]"
        return f"number({self._entry(args, space.lengths, b)}[0])"

    def _entry(self, args: str, name: str, b: str) -> str:
        """A pointer to what an input says of a batch."""
        field = f"{args}{self.arguments.field(name)}"
        ctype = CTYPES[self.plan.problem.operand(name).dtype]
        return f"((const {ctype}*){field}_data + inside({b}, {field}_size[0]) * {field}_stride[0])"

    def row(self, keyset: KeySetPlan) -> dict[str, Value]:
        """Symbols of a function of one row, in scalars."""
        symbols = {name: Value(name, "int") for name in ("b", "h")} | {"n_visible": Value("row.visible", "int")}
        return symbols | self.sizes("a.", keyset) | self.query("q")

    def keys(self, keyset: KeySetPlan) -> dict[str, Value]:
        """Symbols of a function of one row and W keys."""
        row = {name: Value(f"row.{name}", "int") for name in ("b", "h")} | self.query("row.q")
        dots = {f"dot[{i}]": Value(f"dots[{i}]", "float", True) for i in range(len(keyset.dots))}
        if self.boxed(keyset):
            axes = range(3 - self.rank, 3)
            keys = {f"kv[{i}]": Value(f"Boxes::coordinates<{a}>(keys)", "int", True) for i, a in enumerate(axes)}
            keys["kv"] = Value("Boxes::positions(keys)", "int", True)
        else:
            lanes = Value("keys.index", "int", True)
            keys = self.coordinates("kv", lanes) | {"kv": lanes}
        return row | keys | dots | self.sizes("row.args->", keyset, "row.b")

    def query(self, name: str) -> dict[str, Value]:
        """Symbols of the query of a row; `name` is the variable of its number."""
        if self.order is None:
            flat = Value(name, "int")
            return {"q": flat} | self.coordinates("q", flat)
        axes = range(3 - self.rank, 3)
        found = {f"q[{i}]": Value(f"Boxes::coordinate<{a}>({name})", "int") for i, a in enumerate(axes)}
        return found | {"q": Value(f"Boxes::flat({name})", "int")}

    def exists(self, keyset: KeySetPlan) -> Expr:
        """The mask of the key set, without tokens past the edge of the grid."""
        mask = keyset.mask
        if self.order is not None and self.boxed(keyset):
            for i in range(self.rank):
                if self.order.padded(i):
                    for name in ("q", "kv"):
                        mask = op("and", mask, op("lt", sym(f"{name}[{i}]"), self.order.dims[i]))
        return mask

    def tile(self, keyset: KeySetPlan) -> dict[str, Value]:
        """Symbols of a function of one query tile."""
        symbols = {name: Value(f"int64_t({name})", "int") for name in ("b", "h")} | self.sizes("a.", keyset)
        symbols |= {name: Value(name, "int") for name in ("q_first", "q_last")}
        for i in range(self.rank):
            symbols[f"q_first[{i}]"] = Value(f"q_first_{i}", "int")
            padded = self.order is not None and self.order.padded(i)
            last = f"minimum(q_last_{i}, int64_t({self.dims[i] - 1}))" if padded else f"q_last_{i}"
            symbols[f"q_last[{i}]"] = Value(last, "int")
        return symbols

    @property
    def dims(self) -> tuple[int, ...]:
        space = self.plan.spec.space
        return space.dims if isinstance(space, Grid) else ()

    @property
    def rank(self) -> int:
        return len(self.dims)

    def coordinates(self, name: str, flat: Value) -> dict[str, Value]:
        """name[i] of a flat position on the grid."""
        found: dict[str, Value] = {}
        for i, size in enumerate(self.dims):
            below = 1
            for later in self.dims[i + 1 :]:
                below *= later
            number = "integer" if flat.vector else "int64_t"
            text = flat.text if below == 1 else f"floor_div({flat.text}, {number}({below}))"
            if i:
                text = f"modulo({text}, {number}({size}))"
            found[f"{name}[{i}]"] = Value(text, "int", flat.vector)
        return found

    def printer(
        self,
        symbols: Mapping[str, Value],
        *,
        args: str,
        rows: Rows | None = None,
        lane: str = "kv",
        lanes: str = "keys",
    ) -> Printer:
        """A printer of one function body."""
        printer = Printer(symbols, load=lambda node, at: Value("", "float"), rows=rows)
        # In the order of boxes, neighbouring keys need not be neighbours in memory.
        printer.load = self._loads(printer, args, "" if lane == "kv" and self.order is not None else lane, lanes)
        return printer

    def _loads(self, printer: Printer, args: str, lane: str, lanes: str) -> LoadPrinter:
        def load(node: Load, indices: tuple[Value, ...]) -> Value:
            scalar = node.tensor in (*self.arguments.ints, *self.arguments.floats)
            ctype = None if scalar else CTYPES[self.plan.problem.operand(node.tensor).dtype]
            return print_load(printer, node, indices, ctype, args + self.arguments.field(node.tensor), lane, lanes)

        return load

    def head_of(self, view: View, keyset: KeySetPlan) -> tuple[list[str], str]:
        """Statements, and the head of its tensor that a view reads for head h."""
        name = self.arguments.field(view.tensor)
        if view.head is None:
            return [], f"h * a.{name}_size[1] / a.call.heads"
        symbols = {"h": Value("int64_t(h)", "int"), "heads": Value(f"a.{name}_size[1]", "int")}
        printer = self.printer(symbols | self.sizes("a.", keyset), args="a.")
        head = f"inside({printer.emit(view.head).text}, a.{name}_size[1])"
        return printer.lines, head

    def rows_of(self, view: View, start: int, keyset: KeySetPlan, boxed: bool) -> str:
        """The body of a function (a, b, h) that gives the tokens a view reads, perhaps in the order of boxes."""
        name = self.arguments.field(view.tensor)
        body, head = self.head_of(view, keyset)
        strides = ", ".join(f"a.{name}_stride[{i}]" for i in range(4))
        rows = f"rows_of<const {self.element}>(Tensor{{data, {{{strides}}}}}, b, {head})"
        lines = [
            *body,
            f"    const {self.element}* data = (const {self.element}*)a.{name}_data + {start} * a.{name}_stride[3];",
            f"    return {self.in_order(rows, boxed)};",
        ]
        return "\n".join(lines)

    def in_order(self, rows: str, boxed: bool) -> str:
        """The tokens `rows` in the order in which the kernel counts them."""
        return f"in_boxes<Boxes>({rows})" if boxed else rows

    def keys_of(self, view: View, start: int, keyset: KeySetPlan) -> str:
        """The same for a view of keys or values: k and v may lie in pages."""
        space = self.pages(keyset)
        if space is None or view.tensor not in ("k", "v"):
            return self.rows_of(view, start, keyset, self.boxed(keyset))
        name = f"a.{self.arguments.field(view.tensor)}"
        body, head = self.head_of(view, keyset)
        element = f"const {self.element}"
        data = f"({element}*){name}_data + {start} * {name}_stride[3]"
        return "\n".join([*body, self.paged_rows(space, element, data, head, name)])

    def paged_rows(self, space: Paged, element: str, data: str, head: str, name: str) -> str:
        """The statement that gives the tokens of a head in pages; `name`_stride are the strides of the pool."""
        table = f"a.{self.arguments.field(space.table)}"
        index = CTYPES[self.plan.problem.operand(space.table).dtype]
        return (
            f"    return PagedRows<{element}, {index}, {space.page}>{{{data} + ({head}) * {name}_stride[1],\n"
            f"        {self._entry('a.', space.table, 'b')}, (long){table}_stride[1],\n"
            f"        (long){name}_stride[0], (long){name}_stride[2], (long){name}_stride[3]}};"
        )
