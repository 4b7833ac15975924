"""What generated C++ may name: the variables behind the symbols of each kind of function, and the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from attngen.codegen.backends.cpu.loads import CTYPES, print_load
from attngen.codegen.calls.arguments import Arguments
from attngen.codegen.plan import KeySetPlan, Plan
from attngen.codegen.printers.cpp import LoadPrinter, Printer, Rows, Value
from attngen.ir.expr import Load
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
            "n_q": Value(f"{args}call.queries", "int"),
            "n_k": Value(self.length(args, keyset, b), "int"),
        }

    def pages(self, keyset: KeySetPlan) -> Paged | None:
        """The space, where the keys of the set are those that it speaks of."""
        space = self.plan.spec.space
        main = any(keyset is branch.keysets[0] for branch in self.plan.branches)
        return space if isinstance(space, Paged) and main else None

    def length(self, args: str, keyset: KeySetPlan, b: str = "b") -> str:
        """The number of keys of a batch."""
        space = self.pages(keyset)
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
        symbols = {name: Value(name, "int") for name in ("b", "h", "q")} | {"n_visible": Value("row.visible", "int")}
        return symbols | self.sizes("a.", keyset) | self.coordinates("q", Value("q", "int"))

    def keys(self, keyset: KeySetPlan) -> dict[str, Value]:
        """Symbols of a function of one row and W keys."""
        row = {name: Value(f"row.{name}", "int") for name in ("b", "h", "q")}
        keys = Value("keys.index", "int", True)
        dots = {f"dot[{i}]": Value(f"dots[{i}]", "float", True) for i in range(len(keyset.dots))}
        both = self.coordinates("q", row["q"]) | self.coordinates("kv", keys)
        return row | {"kv": keys} | dots | both | self.sizes("row.args->", keyset, "row.b")

    def tile(self, keyset: KeySetPlan) -> dict[str, Value]:
        """Symbols of a function of one query tile."""
        symbols = {name: Value(f"int64_t({name})", "int") for name in ("b", "h")} | self.sizes("a.", keyset)
        symbols |= {name: Value(name, "int") for name in ("q_first", "q_last")}
        for i in range(self.rank):
            symbols |= {f"{end}[{i}]": Value(f"{end}_{i}", "int") for end in ("q_first", "q_last")}
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
        printer.load = self._loads(printer, args, lane, lanes)
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

    def rows_of(self, view: View, start: int, keyset: KeySetPlan) -> str:
        """The body of a function (a, b, h) that gives the tokens a view reads."""
        name = self.arguments.field(view.tensor)
        body, head = self.head_of(view, keyset)
        strides = ", ".join(f"a.{name}_stride[{i}]" for i in range(4))
        lines = [
            *body,
            f"    const {self.element}* data = (const {self.element}*)a.{name}_data + {start} * a.{name}_stride[3];",
            f"    return rows_of<const {self.element}>(Tensor{{data, {{{strides}}}}}, b, {head});",
        ]
        return "\n".join(lines)

    def keys_of(self, view: View, start: int, keyset: KeySetPlan) -> str:
        """The same for a view of keys or values: k and v may lie in pages."""
        space = self.pages(keyset)
        if space is None or view.tensor not in ("k", "v"):
            return self.rows_of(view, start, keyset)
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
