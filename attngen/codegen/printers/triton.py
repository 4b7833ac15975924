"""Expressions to Triton statements over scalars, vectors of rows or keys, and tiles of pairs.

An expression stays as small a block as what it reads: over rows alone it is a vector of rows, and only what needs both
rows and keys becomes a tile. Statements are kept apart by where their values change, so that a template places each
outside of the loops that do not matter to it. One temporary per node, so shared sub-expressions are computed once. The
functions are those of templates/triton, whose text `library` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from attngen.codegen.printers.common import pending
from attngen.codegen.printers.triton_ops import LOG2E, apply
from attngen.codegen.printers.triton_values import Axes, Layout, Value
from attngen.errors import UnsupportedError
from attngen.ir.expr import Const, Expr, Load, Op, Sym
from attngen.ir.signs import Spans, span_of
from attngen.templates import read

LIBRARY = ("mathlib", "integers", "random")
PLACES = (Axes.NONE, Axes.ROW, Axes.KEY, Axes.PAIR)
"""In the order in which their statements stand in a kernel."""
LoadPrinter = Callable[[Load, tuple[Value, ...]], Value]
"""Prints a load from its printed indices: the target decides about addresses and bounds, and keeps to the types of
`Value` (`.to(value.dtype)`)."""


def library(inline: bool = True) -> str:
    """The imports and functions that stand in front of printed kernels; `inline`: with instructions of NVIDIA's."""
    parts = [read(f"triton/{name}.py.jinja").strip() for name in LIBRARY]
    constants = {"INTERPRETED": "triton.knobs.runtime.interpret", "INLINE": str(inline)}
    lines = "\n".join(f"{name} = tl.constexpr({value})" for name, value in constants.items())
    return "\n\n\n".join(["import triton\nimport triton.language as tl", *parts, lines]) + "\n"


@dataclass
class Printer:
    """Prints into one kernel: `symbols` are the variables in scope, `lines` the statements so far by their place.

    A statement reads values of its own place and of the places that it includes: scalars, then rows and keys, then
    pairs. `prefix` keeps the temporaries of several printers in one kernel apart. `given` is what is known of values,
    such as score - m <= 0: there the exponential is one instruction.
    """

    symbols: Mapping[str, Value]
    load: LoadPrinter
    layout: Layout = field(default_factory=Layout)
    prefix: str = "t"
    given: Spans = field(default_factory=dict)
    lines: dict[Axes, list[str]] = field(default_factory=lambda: {place: [] for place in PLACES})
    _done: dict[Expr, Value] = field(default_factory=dict)
    _names: int = 0

    def emit(self, root: Expr) -> Value:
        """Appends the statements that compute the expression and gives its value."""
        for node in pending(root, self._done, self._reads):
            self._done[node] = self._bind(self._print(node))
        return self._done[root]

    def define(self, expr: Expr, value: Value) -> None:
        """Makes an expression known: it is in scope already."""
        self._done[expr] = value

    def spread(self, value: Value, shape: Axes) -> str:
        """The value's text beside a block of the shape, which it meets by Triton's own broadcasting."""
        narrow = value.narrowed(shape, saturate=False)
        return self.layout.spread(narrow.typed(shape), narrow.shape, shape)

    def full(self, value: Value, shape: Axes) -> str:
        """The value's text as a block of exactly the shape."""
        text = self.spread(value, shape)
        return text if value.shape is shape else f"tl.broadcast_to({text}, {self.layout.size(shape)})"

    def _fast_exp(self, node: Expr) -> bool:
        """Whether it is an exponential that is known to be at most 1: its error is below 1e-7 of 1."""
        return isinstance(node, Op) and node.name == "exp" and span_of(node.args[0], self.given).high <= 0

    def _reads(self, node: Expr) -> tuple[Expr, ...]:
        """The nodes whose values the text of this one names."""
        if self._fast_exp(node):
            return (_scaled(node.children[0])[0],)
        return node.children

    def _bind(self, value: Value) -> Value:
        if value.literal is not None or value.text.isidentifier():
            return value
        name = f"{self.prefix}{self._names}"
        self._names += 1
        text = value.text[1:-1] if value.text.startswith("(") else value.text  # what begins so, ends so
        self.lines[value.place].append(f"{name} = {text}")
        return replace(value, text=name)

    def _print(self, node: Expr) -> Value:
        match node:
            case Const(value=value):
                return Value("", node.type, literal=value)
            case Sym(name=name):
                return self._symbol(name, node)
            case Load(indices=indices):
                return self.load(node, tuple(self._done[i] for i in indices))
            case Op(args=(argument,)) if self._fast_exp(node):
                inner, factor = _scaled(argument)
                scaled = self._done[inner].cast("float")
                return replace(scaled, text=f"tl.exp2({scaled.typed(scaled.shape)} * {factor * LOG2E!r})", literal=None)
            case Op(name=name, args=args):
                if name == "uniform":
                    for symbol in ("b", "h", "q", "kv"):
                        self._symbol(symbol, node)
                return apply(name, tuple(self._done[a] for a in args), node.type, self.symbols, self.layout)
            case _:
                raise AssertionError(node)

    def _symbol(self, name: str, node: Expr) -> Value:
        if name not in self.symbols:
            raise UnsupportedError(f"the Triton printer has no value for {name!r} here", source=node.source)
        return self.symbols[name]


def _scaled(expr: Expr) -> tuple[Expr, float]:
    """The expression as another one times a constant, which the exponential folds into its own."""
    match expr:
        case Op(name="mul", args=(inner, Const(value=factor))) | Op(name="mul", args=(Const(value=factor), inner)):
            if expr.type == "float" and 1e-30 < abs(factor) < 1e30:
                return inner, float(factor)
    return expr, 1.0
