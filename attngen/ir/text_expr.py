"""The text form of an expression: infix, with the parentheses that keep the tree, and `let` for what is shared.

The text depends on the structure alone: equal expressions, however their nodes are shared, give the same text, whose
length is linear in the number of distinct nodes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping

from attngen.ir.expr import SYMBOLS, Const, Expr, Load, Op, Sym, intern, loads, postorder
from attngen.ir.ops import INFIX, OPERATORS, Type

WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
RESERVED = frozenset({"true", "false", "inf", "nan", "let", "in", "none", "bool", "int", "float"})

# Words that mean something else in an expression: an input of such a name is quoted.
NOT_BARE = RESERVED | SYMBOLS.keys() | OPERATORS.keys() | {"dot"}

# How tightly an infix operator binds, as in Python. Comparisons do not chain here: both sides bind tighter.
LEVEL: dict[str, int] = {
    "or": 1,
    "and": 2,
    "lt": 4,
    "le": 4,
    "gt": 4,
    "ge": 4,
    "eq": 4,
    "ne": 4,
    "shl": 5,
    "shr": 5,
    "add": 6,
    "sub": 6,
    "mul": 7,
    "truediv": 7,
    "floordiv": 7,
    "mod": 7,
    "pow": 9,
}
NOT, COMPARISON, UNARY, ATOM = 3, 4, 8, 10
# A shared node whose own text would have this many nodes is bound by `let`; so is every node this deep, which bounds
# the nesting of a text and with it the recursion of its parser.
LARGE = 8
DEEP = 40


def name_text(name: str) -> str:
    """A name where the grammar expects one: bare if it is a word, quoted otherwise."""
    return name if WORD.fullmatch(name) else json.dumps(name)


def expr_text(expr: Expr, types: Mapping[str, Type] | None = None) -> str:
    """The text of an expression. `types` holds the declared type of each input: a load that differs carries its own."""
    return _Printer(expr, types).text()


class _Printer:
    def __init__(self, root: Expr, types: Mapping[str, Type] | None) -> None:
        self.types = types
        self.canonical = intern(root)
        self.root = self.canonical[id(root)]
        self.nodes = [n for n in postorder(root) if self.canonical[id(n)] is n]
        self.taken = {load.tensor for load in loads(root)} | set(types or ())
        self.bound: dict[int, str] = {}
        self.done: dict[int, tuple[str, int]] = {}

    def text(self) -> str:
        lets = [f"let {name} = {self.done[key][0]} in\n  " for key, name in self._print_all().items()]
        return "".join(lets) + self.done[id(self.root)][0]

    def _print_all(self) -> dict[int, str]:
        """Prints every distinct node once, children first; gives the bound ones in order."""
        uses = Counter(id(self.canonical[id(child)]) for node in self.nodes for child in node.children)
        size: dict[int, int] = {}
        depth: dict[int, int] = {}
        for node in self.nodes:
            children = [id(self.canonical[id(child)]) for child in node.children]
            size[id(node)] = 1 + sum(size[c] for c in children)
            depth[id(node)] = 1 + max((depth[c] for c in children), default=0)
            self.done[id(node)] = self._print(node)
            shared = uses[id(node)] > 1 and size[id(node)] >= LARGE
            if (shared or depth[id(node)] >= DEEP) and node is not self.root:
                self.bound[id(node)] = self._fresh()
                size[id(node)] = depth[id(node)] = 1
        return self.bound

    def _fresh(self) -> str:
        number = len(self.bound)
        while f"t{number}" in self.taken:
            number += 1
        self.taken.add(f"t{number}")
        return f"t{number}"

    def _child(self, node: Expr, level: int) -> str:
        key = id(self.canonical[id(node)])
        if key in self.bound:
            return self.bound[key]
        text, own = self.done[key]
        return text if own >= level else f"({text})"

    def _print(self, node: Expr) -> tuple[str, int]:
        """The text of a node and how tightly its outermost operator binds."""
        match node:
            case Const(value=value):
                text = str(value).lower() if isinstance(value, bool) else repr(value)
                return text, UNARY if text.startswith("-") else ATOM
            case Sym(name=name):
                return name, ATOM
            case Load():
                return self._load(node), ATOM
            case Op(name="neg", args=(x,)):
                text = self._child(x, UNARY)
                # A minus before a number is part of the literal.
                return (f"-({text})" if re.match(r"[\d.]|inf|nan", text) else f"-{text}"), UNARY
            case Op(name="not", args=(x,)):
                return f"not {self._child(x, UNARY)}", NOT
            case Op(name=name, args=(x, y)) if name in INFIX:
                left, right = _sides(name, x)
                return f"{self._child(x, left)} {INFIX[name]} {self._child(y, right)}", LEVEL[name]
            case Op(name=name, args=args):
                return f"{name}({', '.join(self._child(a, 0) for a in args)})", ATOM
            case _:
                raise TypeError(f"not an expression node: {node!r}")

    def _load(self, node: Load) -> str:
        bare = WORD.fullmatch(node.tensor) and node.tensor not in NOT_BARE and node.tensor not in self.bound.values()
        text = node.tensor if bare else json.dumps(node.tensor)
        if self.types is not None and self.types.get(node.tensor) != node.type:
            text = f"{node.type}:{text}"
        return f"{text}[{', '.join(self._child(i, 0) for i in node.indices)}]" if node.indices else text


def _sides(name: str, left: Expr) -> tuple[int, int]:
    """How tightly the two sides of an infix operator must bind to stand without parentheses."""
    level = LEVEL[name]
    if name == "pow":
        return ATOM, UNARY
    if level == COMPARISON:
        return level + 1, level + 1
    if level < COMPARISON:
        # Anything but a chain of the same operator is easier to read in parentheses.
        return level if isinstance(left, Op) and left.name == name else COMPARISON + 1, COMPARISON + 1
    return level, level + 1
