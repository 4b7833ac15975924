"""What generated Triton may name: the variables behind the symbols of an expression, and the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from attngen.codegen.backends.triton.config import TritonConfig, room
from attngen.codegen.boxes import Boxes
from attngen.codegen.calls.arguments import Arguments
from attngen.codegen.plan import DotPlan, KeySetPlan, Plan
from attngen.codegen.printers.triton import Printer
from attngen.codegen.printers.triton_ops import join
from attngen.codegen.printers.triton_values import Axes, Layout, Value, dtype_of
from attngen.ir.expr import Load
from attngen.ir.nodes import Grid, Paged, View
from attngen.ir.signs import Spans

TILE, TURNED = Layout(), Layout(row_axis=1)


@dataclass(frozen=True, slots=True)
class Scope:
    """One kernel: its plan and its arguments.

    A program works on one tile of queries and loops over keys; with `by_keys` on one tile of keys, and loops over
    queries: its tiles are keys x queries. `config`: how it loops and loads; None where only names are asked for.
    """

    plan: Plan
    arguments: Arguments
    by_keys: bool = False
    config: TritonConfig | None = None

    @property
    def one_loop(self) -> bool:
        """Whether tiles that need no mask have no loop of their own."""
        return self.config is not None and self.config.loops == "one"

    @property
    def descriptors(self) -> bool:
        """Whether tiles of aligned tensors are loaded through descriptors."""
        return self.config is not None and self.config.loads == "descriptor"

    @property
    def boxed(self) -> bool:
        """Whether tiles are boxes of a grid."""
        return self.config is not None and bool(self.config.box_m)

    def holds_boxes(self, keyset: KeySetPlan) -> bool:
        """Whether the keys of the set come in boxes: those that lie on the grid."""
        return self.boxed and isinstance(keyset.space, Grid)

    def boxes(self, of: str) -> Boxes:
        """The boxes of queries ("q") or of keys ("kv")."""
        assert self.config is not None
        return Boxes(self.dims, self.config.box_m if of == "q" else self.config.box_n)

    @property
    def layout(self) -> Layout:
        return TURNED if self.by_keys else TILE

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
        """Symbols of a whole task. Those of its own tile are named after queries, whatever it holds (turned.py)."""
        own = "k" if self.by_keys else "q"
        symbols = {name: Value(name, "int") for name in ("b", "h")} | self.sizes(keyset)
        if self.by_keys:
            symbols |= {"n_q": Value("n_k", "int"), "n_k": Value("n_q", "int")}
        for end in ("first", "last"):
            symbols[f"q_{end}"] = Value(f"{own}_{end}", "int")
            symbols |= {f"q_{end}[{i}]": Value(f"{own}_{end}_{i}", "int") for i in range(len(self.dims))}
        return symbols

    def rows(self, keyset: KeySetPlan) -> dict[str, Value]:
        """Symbols of the rows of a tile."""
        names = {"q": "q"} | {f"q[{i}]": f"q_{i}" for i in range(len(self.dims))}
        rows = {symbol: Value(name, "int", Axes.ROW) for symbol, name in names.items()}
        heads = {name: Value(name, "int") for name in ("b", "h")}
        return self.sizes(keyset) | heads | rows | {"n_visible": Value("visible", "int", Axes.ROW)}

    def pairs(self, keyset: KeySetPlan) -> dict[str, Value]:
        """Symbols of a tile of rows and keys."""
        names = {"kv": "keys"} | {f"kv[{i}]": f"kv_{i}" for i in range(len(self.dims))}
        keys = {symbol: Value(name, "int", Axes.KEY) for symbol, name in names.items()}
        # Of the tile that a loop over keys is at (derive/hoist.py).
        keys |= {name: Value(name, "int", moves=Axes.KEY) for name in ("start", "stop")}
        keys |= {"lane": Value("lane", "int", Axes.KEY)}
        dots = {f"dot[{i}]": Value(f"dot_{i}", "float", Axes.PAIR) for i in range(len(keyset.dots))}
        return self.rows(keyset) | keys | dots

    def printer(
        self, symbols: Mapping[str, Value], prefix: str, layout: Layout | None = None, given: Spans | None = None
    ) -> Printer:
        """A printer whose temporaries begin with `prefix`."""
        return Printer(symbols, self._load, layout or self.layout, prefix, given or {})

    def _load(self, node: Load, indices: tuple[Value, ...]) -> Value:
        field = self.arguments.field(node.tensor)
        if node.tensor in (*self.arguments.ints, *self.arguments.floats):
            return Value(f"({field} != 0)" if node.type == "bool" else field, node.type)
        shape, moves = join(indices)
        at = self._offset(node, indices, [f"{field}_stride{n}" for n in range(len(indices))], shape, self.layout)
        function = "look_up" if shape is Axes.PAIR else "tl.load"
        read = f"{function}({field}_data + {at})"
        return Value(
            f"({read} != 0)" if node.type == "bool" else f"{read}.to({dtype_of(node.type, shape)})",
            node.type,
            shape,
            moves,
        )

    def place(self, node: Load, printer: Printer) -> tuple[str, Axes]:
        """Where the element of a load lies in a contiguous tensor of its sizes, and the shape of this int64."""
        field = self.arguments.field(node.tensor)
        indices = tuple(printer.emit(index).cast("int") for index in node.indices)
        shape, _ = join(indices)
        sizes = [f"{field}_size{n}" for n in range(len(indices))]
        strides = [f"({' * '.join(sizes[n + 1 :]) or '1'})" for n in range(len(indices))]
        return self._offset(node, indices, strides, shape, printer.layout), shape

    def _offset(self, node: Load, indices: tuple[Value, ...], strides: list[str], shape: Axes, layout: Layout) -> str:
        field = self.arguments.field(node.tensor)
        terms = []
        for n, index in enumerate(indices):
            at = f"inside({index.typed(shape)}, {field}_size{n}) * {strides[n]}"
            terms.append(layout.spread(f"({at})", index.shape, shape))
        return " + ".join(terms) or "0"

    def queries(self, dot: DotPlan, keyset: KeySetPlan, lines: list[str], prefix: str) -> str:
        """The queries of a dot at the positions q; statements for where the head begins go to `lines`."""
        field = self.arguments.field(dot.q.tensor)
        head = self.head(dot.q, keyset, lines, f"{prefix}h")
        start = f"b * {field}_stride0 + {head} * {field}_stride1 + {dot.q_start} * {field}_stride3"
        lines.append(f"{prefix}at = {field}_data + {start}")
        return self.load_queries(keyset, f"{prefix}at", field, dot.q_start, dot.width, lines)

    def load_queries(
        self, keyset: KeySetPlan, pointer: str, field: str, start: int, width: int, lines: list[str]
    ) -> str:
        """What lies at the positions q that meet these keys: `width` channels from the pointer on, which is at channel
        `start`."""
        rows = f"{pointer}, q, {field}_stride2, q_live, {field}_stride3, {width}, {room(width)}"
        boxed = self.holds_boxes(keyset) if self.by_keys else self.boxed
        if not self.describe(pointer, field, "q", boxed, start, width, lines):
            return f"load_rows({rows})"
        first = "start" if self.by_keys else "q_first.to(tl.int32)"
        return self.load_described(pointer, "q", boxed, first, rows, width)

    def describe(
        self, pointer: str, field: str, of: str, boxed: bool, start: int, width: int, lines: list[str]
    ) -> bool:
        """Whether tiles of queries ("q") or keys ("kv") from the pointer on come through a descriptor, which `lines`
        then make. Where tiles are boxes it is one of a grid."""
        # Rows of a descriptor begin at multiples of 16 bytes.
        if not self.descriptors or start % 8:
            return False
        step = f"{field}_stride2"
        if boxed:
            below = [prod(self.dims[i + 1 :]) for i in range(len(self.dims))]
            shape, strides = [str(dim) for dim in self.dims], [f"{n} * {step}" if n > 1 else step for n in below]
            sides = [str(side) for side in self.boxes(of).sides]
        else:
            count, block = ("n_q", "BLOCK_M") if of == "q" else ("n_k", "BLOCK_N")
            shape, strides, sides = [f"tl.maximum({count}, 1).to(tl.int32)"], [step], [block]
        each = ", ".join(f"[{', '.join(part)}]" for part in ([*shape, f"{width}"], [*strides, "1"]))
        made = f"tl.make_tensor_descriptor({pointer}, {each}, [{', '.join([*sides, str(room(width))])}])"
        lines += ["if ALIGNED:", f"    {pointer}_tiles = {made}", "else:", f"    {pointer}_tiles = None"]
        return True

    def load_described(self, pointer: str, of: str, boxed: bool, first: str, rows: str, width: int) -> str:
        """The tile that begins at position `first`, or at the corner of a box. `rows`: what load_rows takes, for
        tensors that are not aligned."""
        if not boxed:
            return f"load_tile({pointer}_tiles, {first}, {rows})"
        corner = ", ".join(f"{of}_corner_{i}" for i in range(len(self.dims)))
        box = f"tl.reshape({pointer}_tiles.load([{corner}, 0]), ({self.boxes(of).volume}, {room(width)}))"
        return f"({box} if ALIGNED else load_rows({rows}))"

    def box_at(self, of: str, number: str) -> list[str]:
        """Statements for the corner of box `number` in the order of boxes, row by row."""
        boxes, lines, below = self.boxes(of), [], 1
        for i, (count, side) in reversed(list(enumerate(zip(boxes.counts, boxes.sides, strict=True)))):
            at = f"({number}) // {below}" if below > 1 else f"({number})"
            lines.append(f"{of}_corner_{i} = ({at}{f' % {count}' if i else ''} * {side}).to(tl.int32)")
            below *= count
        return lines

    def in_box(self, of: str, masked: bool) -> list[str]:
        """Statements for the tokens of the box at a corner: coordinates, row-major positions, and which exist."""
        boxes, flat = self.boxes(of), "q" if of == "q" else "keys"
        live = "q_live" if of == "q" else "key_live"
        lines, below = [f"{of}_within = tl.arange(0, {boxes.volume})"], 1
        for i, side in reversed(list(enumerate(boxes.sides))):
            digit = f"{of}_within" if below == 1 else f"{of}_within // {below}"
            lines.append(f"{of}_{i} = {of}_corner_{i} + {digit}{f' % {side}' if i else ''}")
            below *= side
        position = f"{of}_0"
        for i in range(1, len(self.dims)):
            position = f"({position}) * {self.dims[i]} + {of}_{i}"
        # What lies past the edge of the grid is no token, and the position of another.
        inside = " & ".join(f"({of}_{i} < {dim})" for i, dim in enumerate(self.dims))
        return [*lines, f"{flat} = {position}", f"{live} = {inside if masked else None}"]

    def box_ends(self, of: str, own: str) -> list[str]:
        """Statements for the smallest and the largest coordinates in the box of a task."""
        lines = []
        for i, (dim, side) in enumerate(zip(self.dims, self.boxes(of).sides, strict=True)):
            lines.append(f"{own}_first_{i} = {of}_corner_{i}.to(tl.int64)")
            lines.append(f"{own}_last_{i} = tl.minimum({own}_first_{i} + {side}, {dim}) - 1")
        return lines

    def coordinates(self, name: str, flat: str) -> list[str]:
        """Statements for the coordinates of positions on the grid, which are never negative."""
        lines, below = [], 1
        for i, size in reversed(list(enumerate(self.dims))):
            text = flat if below == 1 else f"{flat} // {below}"
            lines.append(f"{name}_{i} = {text} % {size}" if i else f"{name}_{i} = {text}")
            below *= size
        return lines

    def corners(self) -> list[str]:
        """Statements for the smallest and largest coordinates in the tile of a task, which may go over the edge of a
        row of the grid."""
        own = "k" if self.by_keys else "q"
        lines: list[str] = []
        below = 1
        for i, size in reversed(list(enumerate(self.dims))):
            first, last = f"{own}_first // {below}", f"{own}_last // {below}"
            if i == 0:
                lines += [f"{own}_first_0 = {first}", f"{own}_last_0 = {last}"]
            else:
                same = f"{own}_first // {below * size} == {own}_last // {below * size}"
                lines.append(f"{own}_first_{i} = tl.where({same}, {first} % {size}, 0)")
                lines.append(f"{own}_last_{i} = tl.where({same}, {last} % {size}, {size - 1})")
            below *= size
        return lines

    def loop(self, first: str, last: str) -> str:
        """The head of a loop over tiles."""
        if self.config is not None and self.config.specialize:
            return f"for i in tl.range({first}, {last}, warp_specialize=True):"
        return f"for i in range({first}, {last}):"

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
