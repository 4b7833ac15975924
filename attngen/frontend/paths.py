"""Access paths: how a captured value is found again at every call, and the recorded work on captured values alone.

A node is read anew at every call. Two nodes are equal if they lead to the same place by the same steps.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from types import CellType, FunctionType
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """The base. `text` is for people, `name` is what an input made of it is called."""

    text: str
    name: str
    key: Hashable = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self._key())

    def _key(self) -> Hashable:
        raise NotImplementedError

    def read(self) -> Any:
        """The value of this moment."""
        raise NotImplementedError

    def parents(self) -> Iterator[Node]:
        """The nodes that this one is computed from."""
        return iter(())


@dataclass(frozen=True, slots=True, eq=False)
class Cell(Node):
    """A variable of an enclosing function."""

    cell: CellType

    def _key(self) -> Hashable:
        return ("cell", id(self.cell))

    def read(self) -> Any:
        return self.cell.cell_contents


@dataclass(frozen=True, slots=True, eq=False)
class Global(Node):
    """A variable of a module."""

    namespace: dict[str, Any] = field(repr=False)
    variable: str

    def _key(self) -> Hashable:
        return ("global", id(self.namespace), self.variable)

    def read(self) -> Any:
        return self.namespace[self.variable]


@dataclass(frozen=True, slots=True, eq=False)
class Default(Node):
    """The default of a parameter: by position among the defaults, or by name for keyword-only ones."""

    function: FunctionType
    place: int | str

    def _key(self) -> Hashable:
        return ("default", id(self.function), self.place)

    def read(self) -> Any:
        if isinstance(self.place, str):
            return (self.function.__kwdefaults__ or {})[self.place]
        return (self.function.__defaults__ or ())[self.place]


@dataclass(frozen=True, slots=True, eq=False)
class Direct(Node):
    """An object that the traced function holds itself: the `self` of a bound method, a `functools.partial`."""

    value: Any

    def _key(self) -> Hashable:
        return ("object", id(self.value))

    def read(self) -> Any:
        return self.value


@dataclass(frozen=True, slots=True, eq=False)
class Attribute(Node):
    """`parent.attribute`."""

    parent: Node
    attribute: str

    def _key(self) -> Hashable:
        return ("attribute", self.parent.key, self.attribute)

    def read(self) -> Any:
        return getattr(self.parent.read(), self.attribute)

    def parents(self) -> Iterator[Node]:
        yield self.parent


@dataclass(frozen=True, slots=True, eq=False)
class Item(Node):
    """`parent[item]` of a list, a tuple or a dict."""

    parent: Node
    item: Any

    def _key(self) -> Hashable:
        return ("item", self.parent.key, type(self.item), self.item)

    def read(self) -> Any:
        return self.parent.read()[self.item]

    def parents(self) -> Iterator[Node]:
        yield self.parent


@dataclass(frozen=True, slots=True, eq=False)
class Size(Node):
    """`parent.shape[dim]`: an int that follows the tensor."""

    parent: Node
    dim: int

    def _key(self) -> Hashable:
        return ("size", self.parent.key, self.dim)

    def read(self) -> Any:
        return self.parent.read().shape[self.dim]

    def parents(self) -> Iterator[Node]:
        yield self.parent


@dataclass(frozen=True, slots=True, eq=False)
class Call(Node):
    """A recorded call. Arguments may hold nodes, also inside of lists, tuples, dicts and slices."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    def _key(self) -> Hashable:
        return ("call", id(self.function), frozen(self.arguments), frozen(self.keywords))

    def read(self) -> Any:
        return self.function(*evaluate(self.arguments), **evaluate(self.keywords))

    def parents(self) -> Iterator[Node]:
        yield from nodes((self.arguments, self.keywords))


def evaluate(tree: Any) -> Any:
    """The arguments with the value of this moment in place of every node."""
    if isinstance(tree, Node):
        return tree.read()
    if type(tree) in (tuple, list):
        return type(tree)(evaluate(item) for item in tree)
    if type(tree) is dict:
        return {key: evaluate(item) for key, item in tree.items()}
    if type(tree) is slice:
        return slice(*(evaluate(part) for part in (tree.start, tree.stop, tree.step)))
    return tree


def nodes(tree: Any) -> Iterator[Node]:
    """Every node among arguments."""
    if isinstance(tree, Node):
        yield tree
    elif type(tree) in (tuple, list):
        for item in tree:
            yield from nodes(item)
    elif type(tree) is dict:
        yield from nodes(tuple(tree.values()))
    elif type(tree) is slice:
        yield from nodes((tree.start, tree.stop, tree.step))


def frozen(tree: Any) -> Hashable:
    """A hashable form of arguments; constants count by type and value, other objects by identity."""
    if isinstance(tree, Node):
        return tree.key
    if type(tree) in (tuple, list):
        return (type(tree), *(frozen(item) for item in tree))
    if type(tree) is dict:
        return (dict, *((key, frozen(item)) for key, item in tree.items()))
    if type(tree) is slice:
        return (slice, frozen((tree.start, tree.stop, tree.step)))
    if isinstance(tree, float):
        return (float, repr(tree))
    try:
        hash(tree)
    except TypeError:
        return id(tree)
    return (type(tree), tree)


def leaves(node: Node) -> Iterator[Node]:
    """The variables and objects that a node starts from."""
    found = False
    for parent in node.parents():
        found = True
        yield from leaves(parent)
    if not found and not isinstance(node, Call):
        yield node


def text_of(tree: Any) -> str:
    """Arguments as a person would write them."""
    if isinstance(tree, Node):
        return tree.text
    if type(tree) is tuple:
        return "(" + ", ".join(text_of(item) for item in tree) + ("," if len(tree) == 1 else "") + ")"
    if type(tree) is list:
        return "[" + ", ".join(text_of(item) for item in tree) + "]"
    if type(tree) is slice:
        return ":".join("" if part is None else text_of(part) for part in (tree.start, tree.stop))
    return repr(tree)
