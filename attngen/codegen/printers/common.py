"""What the printers of all languages share: the order of statements, and the spelling of infix operators."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

from attngen.ir.expr import Expr

INFIX = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "bit_and": "&", "bit_or": "|", "bit_xor": "^"}
COMPARISON = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


def pending(root: Expr, known: Container[Expr], reads: Callable[[Expr], Iterable[Expr]]) -> list[Expr]:
    """The nodes to print, children first; nothing below a node that is known already. `reads`: what a node needs."""
    seen: set[int] = set()
    order: list[Expr] = []
    stack: list[tuple[Expr, bool]] = [(root, False)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            order.append(node)
        elif id(node) not in seen and node not in known:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(tuple(reads(node))))
    return order
