"""What one trace knows: the inputs found so far, the values behind them, the answers given to Python."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from attngen.errors import Source, SpecError, TraceError
from attngen.frontend import positions
from attngen.frontend.bindings import Binding, Guard, element, kind
from attngen.frontend.combine import unique
from attngen.frontend.forks import Oracle
from attngen.frontend.paths import Call, Node, Size, leaves
from attngen.ir.expr import SYMBOLS, Expr, Load, const, load, op
from attngen.ir.nodes import Input
from attngen.ir.ops import OPERATORS, Type

ACTIVE: ContextVar[Tracer | None] = ContextVar("attngen_tracer", default=None)
RESERVED = {symbol.partition("[")[0] for symbol in SYMBOLS} | OPERATORS.keys() | {"k", "v"}


def is_array(value: Any) -> bool:
    """Whether a value is a tensor or an array, without importing torch; an array without dimensions is a number."""
    if type(value).__name__ == "ndarray":
        return bool(value.ndim)
    return hasattr(value, "requires_grad") and not isinstance(value, type)


class TraceAttributeError(TraceError, AttributeError):
    """An attribute that a value under trace does not have; an AttributeError too, so that `hasattr` works."""


class Tracer:
    """The state of one call of `trace`. Values and names stay from run to run, clones of functions do not."""

    def __init__(self, label: str, dims: int | None) -> None:
        self.label = label
        self.dims = dims
        self.oracle = Oracle(label)
        self.inputs: dict[str, Input] = {}
        self.bindings: dict[str, Binding] = {}
        self.guards: dict[Hashable, Guard] = {}
        self.clones: dict[Any, Any] = {}
        self._names: dict[Hashable, str] = {}
        self._values: dict[Hashable, Any] = {}
        self._settled: set[Hashable] = set()
        self._kept: list[Node] = []

    # --- values ---

    def value(self, node: Node) -> Any:
        """The value behind a node while tracing; recorded work is done once, without gradients."""
        if node.key not in self._values:
            self._kept.append(node)
            if isinstance(node, Call):
                import torch

                with torch.no_grad():
                    self._values[node.key] = node.read()
            else:
                self._values[node.key] = node.read()
        return self._values[node.key]

    def is_plain(self, node: Node) -> bool:
        """Whether the value follows from Python numbers and shapes alone, which cost nothing to read."""
        if isinstance(node, Size):
            return True
        parents = list(node.parents())
        if isinstance(node, Call):
            return all(self.is_plain(parent) for parent in parents)
        return not is_array(self.value(node))

    def guard(self, node: Node, seen: Any, how: Literal["equal", "same", "type", "length"] = "equal") -> None:
        """Remembers a Python value that the expression was made with."""
        self._kept.append(node)
        key = (node.key, how)
        self.guards[key] = Guard(node.text, key, node.read, seen, how)

    def settle(self, node: Node, why: str) -> Any:
        """The value of a number as plain Python, with a guard; refused where that means to look into a tensor."""
        if not self.is_plain(node):
            raise self.error(
                f"{why}: {node.text} is read from a tensor at every call, so it cannot steer the tracing; "
                "pass it as a Python number"
            )
        value = self.value(node)
        self.guard(node, value)
        self._settled.update(leaf.key for leaf in (node, *leaves(node)))
        return value

    def settled(self, node: Node) -> bool:
        """Whether everything behind a node has been settled before."""
        found = list(leaves(node))
        return bool(found) and self.is_plain(node) and all(leaf.key in self._settled for leaf in found)

    # --- expressions ---

    def load(self, node: Node, indices: tuple[Expr, ...] = ()) -> Expr:
        """An element of the input behind a node, which becomes an input if it is not one yet.

        A tensor of floating point without dimensions is an input of one entry, so that it has a gradient.
        """
        name = self._names.get(node.key)
        if name is None:
            name = self._names[node.key] = self._declare(node)
        if not indices and self.inputs[name].axes:
            indices = (const(0),)
        return load(name, indices, self.inputs[name].type, positions.current())

    def _declare(self, node: Node) -> str:
        value = self.value(node)
        type = self.type_of(node)
        rank: int | None = value.ndim if is_array(value) else None
        name = re.sub(r"\W", "_", node.name).strip("_") or "input"
        name = f"{name}_" if name in RESERVED or name[0].isdigit() else name
        name = unique(name, self.inputs)
        self._kept.append(node)
        differentiable = rank is not None and type == "float"
        axes = ("?",) * (rank or differentiable)
        self.inputs[name] = Input(name, axes, type, grad=differentiable)
        created = rank is not None and not any(is_array(self.value(leaf)) for leaf in leaves(node))
        self.bindings[name] = Binding(node.text, node.key, node.read, type, rank, created)
        return name

    def type_of(self, node: Node) -> Type:
        """What the elements of the value behind a node are in expressions."""
        value = self.value(node)
        dtype = getattr(value, "dtype", None)
        if is_array(value):
            type = element(dtype)
            if type is not None:
                return type
            raise self.error(f"{node.text}: a {dtype} tensor; allowed: bool, integer and floating-point tensors")
        value = value.item() if dtype is not None else value
        if isinstance(value, bool):
            return "bool"
        name = value.__class__.__name__
        if isinstance(value, int) or name == "SymInt":
            return "int"
        if isinstance(value, float) or name == "SymFloat":
            return "float"
        raise self.error(f"{node.text}: {kind(value)} is not a number")

    def op(self, name: str, *args: Expr) -> Expr:
        """An operator at the user's line; wrong types become an error in the user's words."""
        source = positions.current()
        try:
            return op(name, *args, source=source)
        except SpecError:
            sign = SIGNS.get(name) or OPERATORS[name].infix or name
            types = " and ".join(a.type for a in args)
            advice = "; for and, or, not compare first, as in `x != 0`" if name in LOGIC else ""
            raise self.error(f"`{sign}` does not take {types}{advice}") from None

    def load_used(self, found: Iterator[Load]) -> tuple[Input, ...]:
        """The inputs of an expression, in the order of their first use."""
        return tuple(self.inputs[name] for name in dict.fromkeys(node.tensor for node in found))

    def error(self, message: str, source: Source | None = None) -> TraceError:
        """An error at the line of the user's code that runs now."""
        return TraceError(message, source=source or positions.current())

    @contextmanager
    def active(self) -> Iterator[None]:
        """Makes this the tracer of the functions that take only numbers; in the end it lets go of captured tensors."""
        token = ACTIVE.set(self)
        try:
            yield
        finally:
            ACTIVE.reset(token)
            self.clones.clear()
            self._values.clear()


SIGNS = {"and": "&", "or": "|", "xor": "^", "not": "~", "bit_and": "&", "bit_or": "|", "bit_xor": "^", "bit_not": "~"}
LOGIC = ("and", "or", "xor", "not", "bit_and", "bit_or", "bit_xor", "bit_not", "where")
