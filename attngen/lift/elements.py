"""The element of a node at an index, as an expression: the graph is read from what is wanted back to its inputs.

`at(node, index)` is the whole idea: a view moves the index, a pointwise function makes an operator, a product of
queries and keys is the symbol `score`, a reduction over the keys a marker of the row. What is not understood, and does
not depend on scores, is an input of the kernel, made by PyTorch as before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from attngen.errors import LiftError
from attngen.frontend.bindings import element
from attngen.frontend.combine import unique
from attngen.ir.expr import Expr, Sym, const, load, loads, postorder, sym
from attngen.ir.expr import symbols as symbols_of
from attngen.lift.blocked import blocked
from attngen.lift.contractions import Contraction, contraction
from attngen.lift.creation import GRIDS, created
from attngen.lift.gathers import gathered
from attngen.lift.indices import Indices, broadcast
from attngen.lift.joins import joined
from attngen.lift.lines import Lines
from attngen.lift.names import input_name
from attngen.lift.nodes import called, example, is_tensor, shape, size_key, source
from attngen.lift.randomness import dropped
from attngen.lift.reductions import Kind, Reduction, markers, reduced
from attngen.lift.views import viewed

if TYPE_CHECKING:
    from attngen.ir.ops import Type

Q, KV, SCORE = sym("q"), sym("kv"), sym("score")


@dataclass(frozen=True, slots=True)
class Leaf:
    """An input of the kernel: the node that makes it (or a number), and whether it is a tensor without dimensions."""

    node: Any
    type: Type
    rank: int | None
    scalar_tensor: bool = False


@dataclass
class Elements:
    """Reads one attention. `n_q` and `n_k` are the sizes that the symbols of the same name stand for."""

    n_q: Any
    n_k: Any
    lines: Lines = field(default_factory=Lines)
    leaves: dict[str, Leaf] = field(default_factory=dict)
    reductions: list[Reduction] = field(default_factory=list)
    scores: dict[Node, None] = field(default_factory=dict)
    seen: dict[Node, None] = field(default_factory=dict)
    product: Contraction | None = None
    place: dict[str, Expr] = field(default_factory=dict)
    _done: dict[tuple[Node, Indices], Expr] = field(default_factory=dict)
    _names: dict[Any, str] = field(default_factory=dict)

    # --- elements ---

    def at(self, node: Node, index: Indices) -> Expr:
        """The element of a tensor node at an index. Raises `LiftError` where scores go through what has no form."""
        key = (node, index)
        if key not in self._done:
            before, self.lines.source = self.lines.source, source(node)
            self.seen[node] = None
            found = self._done[key] = self._at(node, index)
            self.lines.source = before
            if self.is_score(found):
                self.scores[node] = None
        return self._done[key]

    def _at(self, node: Node, index: Indices) -> Expr:
        if node.op in ("placeholder", "get_attr", "call_module"):
            return self.leaf(node, index)
        moved = viewed(node, index)
        if moved is not None:
            return self.at(*moved)
        for rule in RULES:
            found = rule(self, node, index)
            if found is not None:
                return found
        if called(node) == "detach":
            return self._detached(node, index)
        if not self._stays(node, index):
            return self._pointwise(node, index)
        if self.behind_product(node):
            computed = self._pointwise(node, index)
            if self.is_score(computed):
                return computed
        return self.leaf(node, index)

    def _pointwise(self, node: Node, index: Indices) -> Expr:
        name, sizes = called(node), shape(node)
        if any(not is_tensor(a) and not _is_number(a) for a in node.all_input_nodes):
            return self._of_several(node, index)
        if not self.lines.knows(name) or any(len(shape(a)) > len(sizes) for a in node.all_input_nodes if is_tensor(a)):
            return self.leaf(node, index)

        def value(arg: Any) -> Any:
            if is_tensor(arg):
                return self.at(arg, broadcast(index, sizes, shape(arg)))
            return self.scalar(arg) if isinstance(arg, Node) else arg

        arguments = tuple(map(value, node.args))
        options = {key: value(arg) for key, arg in node.kwargs.items()}
        try:
            found = self.lines.spelled(name, arguments, options)
        except LiftError:
            found = None
        if found is not None:
            return self.typed(node, found)
        if any(arg in self.scores for arg in node.all_input_nodes):
            raise blocked(f"`{name}` between the two products has no form in a kernel", node)
        return self.leaf(node, index)

    def typed(self, node: Node, found: Expr) -> Expr:
        """The expression in the type of a node: the sum of two conditions is a condition for torch."""
        kind = element(example(node).dtype)
        return found if kind is None or kind == found.type else self.lines.op(f"to_{kind}", found)

    def _of_several(self, node: Node, index: Indices) -> Expr:
        """One of several results: what PyTorch makes, unless it was made of scores."""
        for maker in node.all_input_nodes:
            for x in filter(is_tensor, maker.all_input_nodes):
                if self.behind_product(x) and len(shape(x)) == len(index) and self.is_score(self.at(x, index)):
                    raise blocked(f"`{called(maker)}` between the two products has no form in a kernel", maker)
        return self.leaf(node, index)

    def _detached(self, node: Node, index: Indices) -> Expr:
        """Only what has no gradient may lose one: a maximum (an anchor), integers, conditions."""
        x: Any = node.args[0]
        found = self.at(x, index)
        if self.is_score(found):
            if found in markers(found) and self.reduction(found).kind == "max":
                return found
            raise blocked("`detach` on scores cuts a gradient, which a kernel does not", node)
        return self.leaf(node, index) if any(one.type == "float" for one in loads(found)) else found

    def _stays(self, node: Node, index: Indices) -> bool:
        """Whether PyTorch had better make this tensor: floating-point work on inputs alone, smaller than all pairs."""
        if not is_tensor(node) or not example(node).dtype.is_floating_point:
            return False
        moving = symbols_of(*index)
        if "q" in moving and "kv" in moving:
            return False
        return not any(self._made_of_positions(arg) for arg in node.all_input_nodes)

    def _made_of_positions(self, node: Node) -> bool:
        """Whether positions, conditions or integers enter the pointwise work behind a node."""
        stack, seen = [node], set()
        while stack:
            each = stack.pop()
            if each in seen or not is_tensor(each):
                continue
            seen.add(each)
            if called(each) in GRIDS or not example(each).dtype.is_floating_point:
                return True
            if each.op in ("call_function", "call_method") and contraction(each) is None:
                stack.extend(each.all_input_nodes)
        return False

    def behind_product(self, node: Node) -> bool:
        """Whether a product, which may be the one that makes scores, is above a node."""
        stack, seen = [node], {node}
        while stack:
            each = stack.pop()
            if contraction(each) is not None:
                return True
            new = [n for n in each.all_input_nodes if n not in seen]
            seen.update(new)
            stack += new
        return False

    # --- inputs ---

    def leaf(self, node: Node, index: Indices) -> Expr:
        """An element of a tensor that PyTorch makes."""
        if not is_tensor(node):
            raise blocked(f"`{called(node) or node.name}` is no tensor", node)
        tensor = example(node)
        kind = element(tensor.dtype)
        if kind is None:
            raise blocked(f"a tensor of {tensor.dtype} cannot enter a kernel", node)
        if any(markers(each) or SCORE in postorder(each) for each in index):
            raise blocked("a table is read at an index that depends on scores", node)
        name = self._name(node, Leaf(node, kind, max(1, tensor.dim()), tensor.dim() == 0))
        return load(name, index or (const(0),), kind, self.lines.source or source(node))

    def scalar(self, value: Any) -> Expr:
        """A number, or a symbolic one, which is a size of the call or an input of the kernel."""
        if not isinstance(value, Node):
            return const(value, self.lines.source)
        known = example(value)
        if isinstance(known, bool | int | float):
            return const(known, self.lines.source)
        if isinstance(known, torch.SymInt):
            key = size_key(known)
            if isinstance(key, int):
                return const(key, self.lines.source)
            if key == size_key(self.n_q):
                return sym("n_q", self.lines.source)
            if key == size_key(self.n_k):
                return sym("n_k", self.lines.source)
        if not isinstance(known, torch.SymInt | torch.SymFloat):
            raise blocked(f"`{value.name}` is no number", value)
        if value.op == "call_function" and called(value) in ARITHMETIC and all(map(_is_number, value.args)):
            found = self.lines.spelled(called(value), tuple(self.scalar(a) for a in value.args), {})
            if found is not None:
                return found
        kind: Type = "int" if isinstance(known, torch.SymInt) else "float"
        return load(self._name(value, Leaf(value, kind, None)), (), kind, self.lines.source)

    def number(self, value: Any) -> Expr:
        """A number, a symbolic one, or a tensor without dimensions."""
        return self.at(value, ()) if is_tensor(value) else self.scalar(value)

    def draw(self) -> str:
        """A new input that holds a seed; no node makes it: `rewrite` draws it from torch's generator."""
        name = unique("seed", self.leaves)
        self.leaves[name] = Leaf(None, "int", 1)
        return name

    def _name(self, node: Node, leaf: Leaf) -> str:
        if node not in self._names:
            name = input_name(node, self.leaves)
            self._names[node] = name
            self.leaves[name] = leaf
        return self._names[node]

    # --- scores ---

    def _scored(self, node: Node, index: Indices) -> Expr | None:
        """`score` where a node is the product of queries and keys."""
        product = contraction(node)
        if product is None:
            return None
        place = dict(zip(product.out, index, strict=True))
        for each in (product, product.turned()):
            rows = [letter for letter in each.of_left if letter not in each.of_right]
            columns = [letter for letter in each.of_right if letter not in each.of_left]
            found = [letter for letter in rows if place[letter] == Q or (self._single() and _is_zero(place[letter]))]
            if len(found) != 1 or len(columns) != 1 or len(product.summed) != 1:
                continue
            others = [place[letter] for letter in product.out if letter not in (found[0], columns[0])]
            if place[columns[0]] == KV and not any(map(self.moves, others)):
                return self._product(each, {**place, found[0]: Q})
        return None

    def _product(self, product: Contraction, place: dict[str, Expr]) -> Expr | None:
        if self.product is not None and (self.product.node, self.place) != (product.node, place):
            return None  # a second product: PyTorch makes it, and the kernel reads it
        self.product, self.place = product, place
        index = tuple(place[letter] for letter in product.out)
        score: Expr = SCORE
        if not (isinstance(product.alpha, int | float) and product.alpha == 1):
            score = self.lines.op("mul", score, self.scalar(product.alpha))
        if product.added is None:
            return score
        added = self.at(product.added, broadcast(index, shape(product.node), shape(product.added)))
        if not (isinstance(product.beta, int | float) and product.beta == 1):
            added = self.lines.op("mul", self.scalar(product.beta), added)
        return self.lines.op("add", added, score)

    def _single(self) -> bool:
        return bool(size_key(self.n_q) == 1)

    def row(self, kind: Kind, of: Expr, sink: Expr | None) -> Expr:
        """The marker of a reduction over the keys of a row."""
        for each in self.reductions:
            if (each.kind, each.of, each.sink) == (kind, of, sink):
                return each.marker
        marker = Sym("float", f"row {len(self.reductions)}")
        self.reductions.append(Reduction(kind, of, marker, sink))
        return marker

    def has_sink(self, node: Node) -> bool:
        """Whether the last dimension of a tensor has one column more than there are keys."""
        return bool(size_key(shape(node)[-1] - self.n_k) == 1)

    def reduction(self, marker: Expr) -> Reduction:
        """What a marker stands for."""
        return next(each for each in self.reductions if each.marker == marker)

    def is_score(self, expr: Expr) -> bool:
        """Whether an expression depends on scores."""
        return any(isinstance(n, Sym) and (n == SCORE or n.name.startswith("row ")) for n in postorder(expr))

    def moves(self, expr: Expr) -> bool:
        """Whether an expression changes from query to query, or from key to key."""
        return bool({"q", "kv"} & symbols_of(expr))


RULES: tuple[Callable[[Elements, Node, Indices], Expr | None], ...] = (
    created, Elements._scored, reduced, joined, gathered, dropped,
)  # fmt: skip
ARITHMETIC = frozenset(
    {"add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "neg", "sym_sqrt", "sym_float", "sym_max", "sym_min"}
)


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float) or isinstance(example(value), torch.SymInt | torch.SymFloat | int)


def _is_zero(expr: Expr) -> bool:
    return expr == const(0)
