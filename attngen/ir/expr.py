"""The typed expression tree: masks, scores, normalizers, weights and coefficients are written in it.

Four frozen nodes. The tree keeps the user's order of evaluation and the source position of every node; positions do not
take part in equality. Shared sub-expressions may be shared nodes, so walk with `postorder` or `rebuild`, which visit
each node once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import cast

from attngen.errors import Source, SpecError
from attngen.ir.ops import OPERATORS, Type

SYMBOLS: dict[str, Type] = {
    # What mask, score and weight functions see.
    "score": "float",
    "b": "int",
    "h": "int",
    "q": "int",
    "kv": "int",
    **{f"{axis}[{i}]": "int" for axis in ("q", "kv") for i in range(3)},
    **{f"dot[{i}]": "float" for i in range(8)},
    # Sizes: queries, keys, batches, heads of the result, heads of the tensor that a view reads, width of a head or of a
    # view; keys that a row sees.
    "n_q": "int",
    "n_k": "int",
    "n_b": "int",
    "n_h": "int",
    "heads": "int",
    "d": "int",
    "n_visible": "int",
    # What loop bounds see: the first and the last query of a tile (inclusive), flat and per coordinate.
    **{f"{name}{axis}": "int" for name in ("q_first", "q_last") for axis in ("", "[0]", "[1]", "[2]")},
    # What kernels see inside of a tile: its first key, before which key it ends, and how far behind the first a key is.
    "start": "int",
    "stop": "int",
    "lane": "int",
    # What normalizers see: score, anchor, then row statistics; x is an element of a feature map.
    "s": "float",
    "m": "float",
    "acc": "float",
    "mass": "float",
    "count": "float",
    "vsum": "float",
    "dim": "int",
    "x": "float",
    # What derivation adds: anchor and result of an earlier pass over the keys; the sum of what an ordered normalizer
    # keeps of the keys before this one. Cotangents: of acc . v for a pair, of the mass, of the result of an earlier
    # pass, of the sum before, of a result element, of the log-sum-exp.
    **{f"{name}[{i}]": "float" for name in ("m", "r", "dr") for i in range(4)},
    **dict.fromkeys(("before", "dp", "dmass", "dbefore", "dout", "dlse"), "float"),
}
"""Every symbol an expression may hold, with its type. `q` and `kv` are flat positions, `q[0]` coordinates on a grid."""


@dataclass(frozen=True, slots=True, eq=False)
class Expr:
    """The base of the four nodes. `type` is bool, int or float."""

    type: Type
    source: Source | None = field(default=None, kw_only=True, repr=False)
    _hash: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash(self._identity()))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Expr) and _same(self, other)

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[object, ...]:
        # Hashes of strings differ from process to process, so a pickled node must not carry its hash.
        return _restore, (type(self), {f.name: getattr(self, f.name) for f in fields(self) if f.init})

    def _label(self) -> tuple[object, ...]:
        """What tells two nodes with equal children apart."""
        raise NotImplementedError

    def _identity(self) -> tuple[object, ...]:
        return (*self._label(), self.children)

    @property
    def children(self) -> tuple[Expr, ...]:
        return ()


@dataclass(frozen=True, slots=True, eq=False)
class Const(Expr):
    """A literal. `repr` is compared, so that 1, 1.0 and True differ, as do 0.0 and -0.0, and NaN equals itself."""

    value: bool | int | float

    def _label(self) -> tuple[object, ...]:
        return ("const", self.type, repr(self.value))


@dataclass(frozen=True, slots=True, eq=False)
class Sym(Expr):
    """One of `SYMBOLS`."""

    name: str

    def _label(self) -> tuple[object, ...]:
        return ("sym", self.name)


@dataclass(frozen=True, slots=True, eq=False)
class Load(Expr):
    """An element of an input (or of a router's class table). Without indices: a run-time scalar."""

    tensor: str
    indices: tuple[Expr, ...]

    def _label(self) -> tuple[object, ...]:
        return ("load", self.type, self.tensor)

    @property
    def children(self) -> tuple[Expr, ...]:
        return self.indices


@dataclass(frozen=True, slots=True, eq=False)
class Op(Expr):
    """An operator of `attngen.ir.ops.OPERATORS` on its arguments. Build with `op`, which types it."""

    name: str
    args: tuple[Expr, ...]

    def _label(self) -> tuple[object, ...]:
        return ("op", self.name)

    @property
    def children(self) -> tuple[Expr, ...]:
        return self.args


def _same(left: Expr, right: Expr) -> bool:
    """Structural equality that visits each pair of nodes once: linear on shared sub-expressions, and not recursive."""
    seen: set[tuple[int, int]] = set()
    stack = [(left, right)]
    while stack:
        a, b = stack.pop()
        if a is b or (id(a), id(b)) in seen:
            continue
        seen.add((id(a), id(b)))
        if a._hash != b._hash or a._label() != b._label() or len(a.children) != len(b.children):
            return False
        stack.extend(zip(a.children, b.children, strict=True))
    return True


def _restore(cls: type[Expr], values: dict[str, object]) -> Expr:
    return cast(Callable[..., Expr], cls)(**values)


def intern(*roots: Expr) -> dict[int, Expr]:
    """One representative for each class of equal nodes below the roots, by the id of the node. Linear."""
    table: dict[tuple[object, ...], Expr] = {}
    found: dict[int, Expr] = {}
    for node in postorder(*roots):
        key = (*node._label(), tuple(id(found[id(child)]) for child in node.children))
        found[id(node)] = table.setdefault(key, node)
    return found


Number = bool | int | float


def const(value: Number, source: Source | None = None) -> Const:
    """A literal of its Python type."""
    kind: Type = "bool" if isinstance(value, bool) else "int" if isinstance(value, int) else "float"
    return Const(kind, value, source=source)


def sym(name: str, source: Source | None = None) -> Sym:
    """A symbol; raises `SpecError` for a name that is not one."""
    if name not in SYMBOLS:
        raise SpecError(f"{name!r} is not a symbol; known: {', '.join(SYMBOLS)}", source=source)
    return Sym(SYMBOLS[name], name, source=source)


def load(tensor: str, indices: tuple[Expr, ...] = (), type: Type = "float", source: Source | None = None) -> Load:
    """An element of the input `tensor`; raises `SpecError` where an index is not an integer."""
    for index in indices:
        if index.type != "int":
            raise SpecError(f"an index of {tensor!r} is a {index.type}; indices are integers", source=source)
    return Load(type, tensor, indices, source=source)


def op(name: str, *args: Expr | Number, source: Source | None = None) -> Op:
    """The operator on its arguments, typed by the table; raises `SpecError` for a wrong number or type."""
    operator = OPERATORS.get(name)
    if operator is None:
        raise SpecError(f"{name!r} is not an operator", source=source)
    exprs = tuple(a if isinstance(a, Expr) else const(a, source) for a in args)
    if len(exprs) != operator.arity:
        raise SpecError(f"{name} takes {operator.arity} arguments, got {len(exprs)}", source=source)
    types = tuple(e.type for e in exprs)
    result = operator.rule(types)
    if result is None:
        raise SpecError(f"{name} does not take ({', '.join(types)})", source=source)
    return Op(result, name, exprs, source=source)


def postorder(*roots: Expr) -> Iterator[Expr]:
    """Every distinct node below the roots once, children first, in order of evaluation."""
    seen: set[int] = set()
    stack: list[tuple[Expr, bool]] = [(root, False) for root in reversed(roots)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            yield node
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(node.children))


def rebuild(root: Expr, change: Callable[[Expr], Expr | None]) -> Expr:
    """The tree with `change(node)` in place of every node for which it gives one; children are changed first."""
    done: dict[int, Expr] = {}
    for node in postorder(root):
        new = node
        match node:
            case Op(args=args):
                changed = tuple(done[id(a)] for a in args)
                if any(a is not c for a, c in zip(args, changed, strict=True)):
                    new = op(node.name, *changed, source=node.source)
            case Load(indices=indices):
                changed = tuple(done[id(i)] for i in indices)
                if any(a is not c for a, c in zip(indices, changed, strict=True)):
                    new = load(node.tensor, changed, node.type, node.source)
        replaced = change(new)
        done[id(node)] = new if replaced is None else replaced
    return done[id(root)]


def substitute(root: Expr, values: Mapping[str, Expr]) -> Expr:
    """The tree with expressions in place of symbols, by name."""
    return rebuild(root, lambda node: values.get(node.name) if isinstance(node, Sym) else None)


def symbols(*roots: Expr | None) -> frozenset[str]:
    """The names of all symbols below the roots."""
    return frozenset(n.name for n in postorder(*(r for r in roots if r is not None)) if isinstance(n, Sym))


def loads(*roots: Expr | None) -> tuple[Load, ...]:
    """All distinct loads below the roots, in order of evaluation."""
    found = (n for n in postorder(*(r for r in roots if r is not None)) if isinstance(n, Load))
    return tuple(dict.fromkeys(found))
