"""Expressions to C++ statements over scalars and vectors.

Whatever depends on the row alone is computed once per row, in scalars, and kept in a struct `Row`; the rest is printed
over the lanes of a vector of keys. One temporary per node, so shared sub-expressions are computed once. The functions
and operators are those of templates/cpp, which has each in a scalar and a vector overload.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from attngen.codegen.printers.common import COMPARISON as COMPARISON
from attngen.codegen.printers.common import INFIX, pending
from attngen.errors import UnsupportedError
from attngen.ir.expr import Const, Expr, Load, Op, Sym, postorder, symbols
from attngen.ir.ops import Type, promote
from attngen.ir.signs import span_of

SCALAR: dict[Type, str] = {"bool": "bool", "int": "int64_t", "float": "real"}
VECTOR: dict[Type, str] = {"bool": "vb", "int": "vi", "float": "vf"}
LOGIC = {"and": ("&&", "&"), "or": ("||", "|"), "xor": ("!=", "^")}
"""Spelling on scalars and on lane masks."""
FUNCTION = {"floordiv": "floor_div", "mod": "modulo", "shl": "shift_left", "shr": "shift_right"}
"""Operators whose C++ function has another name."""


@dataclass(frozen=True, slots=True)
class Value:
    """A C++ expression with its type; `vector`: one value per lane, else one for all."""

    text: str
    type: Type
    vector: bool = False

    @property
    def ctype(self) -> str:
        return (VECTOR if self.vector else SCALAR)[self.type]

    def cast(self, type: Type) -> Value:
        """The value as another type."""
        match self.vector, self.type, type:
            case _, given, wanted if given == wanted:
                return self
            case False, "float", "bool":
                text = f"({self.text} != 0)"
            case False, _, _:
                text = f"{SCALAR[type]}({self.text})"
            case True, "bool", "int":
                text = f"({self.text} & splat(integer(1)))"
            case True, "bool", "float":
                text = f"select({self.text}, splat(real(1)), splat(real(0)))"
            case True, "int", "float":
                text = f"to_real({self.text})"
            case True, "float", "int":
                text = f"saturated_int({self.text})"
            case _:
                text = f"vb({self.text} != {VECTOR[self.type]}{{}})"
        return Value(text, type, self.vector)

    def widen(self) -> Value:
        """The value in every lane."""
        if self.vector:
            return self
        splat = {"bool": "lanes({})", "int": "splat(integer({}))", "float": "splat(real({}))"}[self.type]
        return Value(splat.format(self.text), self.type, True)


LoadPrinter = Callable[[Load, tuple[Value, ...]], Value]
"""Prints a load from its printed indices: the target decides about addresses and bounds."""


@dataclass
class Rows:
    """Fields of `struct Row`: expressions over `symbols` alone (b, h, q and sizes), computed once per row."""

    symbols: frozenset[str]
    prefix: str
    fields: dict[Expr, str] = field(default_factory=dict)

    def holds(self, expr: Expr) -> bool:
        """Whether the expression belongs to the row."""
        if isinstance(expr, Const):
            return False
        seeded = any(isinstance(n, Op) and n.name == "uniform" for n in postorder(expr))
        return not seeded and symbols(expr) <= self.symbols

    def value(self, expr: Expr) -> Value:
        """The field that holds the expression."""
        name = self.fields.setdefault(expr, f"{self.prefix}{len(self.fields)}")
        return Value(f"row.{name}", expr.type)


@dataclass
class Printer:
    """Prints one function body: `symbols` are the variables in scope, `lines` the statements so far."""

    symbols: Mapping[str, Value]
    load: LoadPrinter
    rows: Rows | None = None
    indent: str = "    "
    lines: list[str] = field(default_factory=list)
    _done: dict[Expr, Value] = field(default_factory=dict)

    def emit(self, root: Expr) -> Value:
        """Appends the statements that compute the expression and gives its value."""
        for node in pending(root, self._done, self._reads):
            if node not in self._done:
                self._done[node] = self._bind(self._print(node))
        return self._done[root]

    def define(self, expr: Expr, value: Value) -> None:
        """Makes an expression known: it is in scope already."""
        self._done[expr] = value

    def body(self, root: Expr, type: Type, *, vector: bool) -> str:
        """The whole body of a function that returns the expression."""
        value = self.emit(root).cast(type)
        result = value.widen() if vector else value
        return "\n".join([*self.lines, f"{self.indent}return {result.text};"])

    def _reads(self, node: Expr) -> tuple[Expr, ...]:
        """Nothing below a node that the row holds."""
        return () if self.rows is not None and self.rows.holds(node) else node.children

    def _bind(self, value: Value) -> Value:
        if value.text.replace(".", "").replace("_", "").isalnum():
            return value
        name = f"t{len(self.lines)}"
        self.lines.append(f"{self.indent}const {value.ctype} {name} = {value.text};")
        return replace(value, text=name)

    def _print(self, node: Expr) -> Value:
        if self.rows is not None and self.rows.holds(node):
            return self.rows.value(node)
        match node:
            case Const(value=value):
                return Value(literal(value), node.type)
            case Sym(name=name):
                if name not in self.symbols:
                    raise UnsupportedError(f"the C++ printer has no value for {name!r} here", source=node.source)
                return self.symbols[name]
            case Load(indices=indices):
                return self.load(node, tuple(self._done[i] for i in indices))
            case Op(name="exp", args=(argument,)) if span_of(argument).high <= 0:
                return apply("exp_nonpositive", (self._done[argument],), "float", self.symbols)
            case Op(name=name, args=args):
                return apply(name, tuple(self._done[a] for a in args), node.type, self.symbols)
            case _:
                raise AssertionError(node)


def literal(value: bool | float) -> str:
    """A C++ literal; floats carry all their digits, and `real` picks the precision."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f"int64_t({value}LL)"
        case float() if value != value:
            return "real(NAN)"
        case float() if abs(value) == float("inf"):
            return "INF" if value > 0 else "(-INF)"
        case _:
            return f"real({value!r})"


def apply(name: str, args: tuple[Value, ...], result: Type, scope: Mapping[str, Value]) -> Value:
    """One operator on printed arguments, brought to a common form first."""
    if name in ("to_float", "to_int", "to_bool"):
        return args[0].cast(result)
    if name == "uniform":
        keys = scope["kv"].text.removesuffix(".index")  # neighbouring keys share the work
        where = ", ".join((*(scope[s].text for s in ("b", "h", "q")), keys))
        return Value(f"uniform01(uint64_t({args[0].cast('int').text}), {where})", "float", True)
    if name == "uniform_at":
        *row, kv = (a.cast("int") for a in args)
        where = ", ".join((*(f"integer({a.text})" for a in row[1:]), kv.widen().text))
        return Value(f"uniform01(uint64_t({row[0].text}), {where})", "float", True)
    common: Type = result
    if name in COMPARISON:
        common = promote((*(a.type for a in args), "int"))
    operands = [a.cast(common) for a in args]
    if name == "where":
        operands[0] = args[0]
    vector = any(a.vector for a in args)
    if vector and common == "int" and name in (*COMPARISON, "minimum", "maximum", "floordiv"):
        # A row's own integers have 64 bits, lanes 32: these come out the same at the nearest that fits. What does not
        # is refused at launch.
        operands = [o if o.vector else Value(f"saturated({o.text})", "int") for o in operands]
    texts = [(o.widen() if vector else o).text for o in operands]
    if name in ("floordiv", "mod") and vector and common == "int" and not operands[1].vector:
        texts[1] = f"integer({operands[1].text})"  # one divisor for all lanes needs no division in the loop
    if name in INFIX:
        text = f"({texts[0]} {INFIX[name]} {texts[1]})"
    elif name in COMPARISON:
        text = f"({texts[0]} {COMPARISON[name]} {texts[1]})"
        text = f"vb{text}" if vector else text
    elif name in LOGIC:
        text = f"({texts[0]} {LOGIC[name][vector]} {texts[1]})"
    elif name == "not":
        text = f"(~{texts[0]})" if vector else f"(!{texts[0]})"
    elif name == "where" and not vector:
        text = f"({texts[0]} ? {texts[1]} : {texts[2]})"
    elif name == "where":
        text = f"select({', '.join(texts)})"
    elif name == "neg":
        text = f"(-{texts[0]})"
    elif name == "bit_not":
        text = f"(~{texts[0]})"
    else:
        text = f"{FUNCTION.get(name, name)}({', '.join(texts)})"
    return Value(text, result, vector)
