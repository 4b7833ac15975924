"""Products of two tensors, in one form: every dimension has a letter, as in an einsum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from string import ascii_letters
from typing import TYPE_CHECKING, Any

from attngen.lift.nodes import called, is_tensor, shape

if TYPE_CHECKING:
    from torch.fx import Node


@dataclass(frozen=True, slots=True)
class Contraction:
    """result[out] = alpha * sum over what is not in `out` of left[...] * right[...] + beta * added."""

    node: Node
    left: Node
    right: Node
    of_left: str
    of_right: str
    out: str
    alpha: Any = 1
    beta: Any = 0
    added: Node | None = None

    @property
    def summed(self) -> str:
        """The letters that are summed over."""
        return "".join(letter for letter in self.of_left if letter not in self.out)

    def turned(self) -> Contraction:
        """The same with its operands exchanged."""
        return replace(self, left=self.right, right=self.left, of_left=self.of_right, of_right=self.of_left)

    def sizes(self) -> dict[str, Any]:
        """The size of each letter: where one operand is broadcast, that of the other."""
        found = dict(zip(self.of_left, shape(self.left), strict=True))
        for letter, size in zip(self.of_right, shape(self.right), strict=True):
            if found.get(letter, 1) == 1:
                found[letter] = size
        return found


def contraction(node: Node) -> Contraction | None:
    """The product that a node is; None for other nodes, and for products of another form."""
    rule = RULES.get(called(node))
    if rule is None or not is_tensor(node):
        return None
    try:
        found = rule(node, *node.args, **node.kwargs)
    except TypeError:
        return None
    if found is None or not found.summed:
        return None
    left, right = set(found.of_left), set(found.of_right)
    whole = len(left) == len(found.of_left) and len(right) == len(found.of_right) and set(found.out) <= left | right
    return found if whole and set(found.summed) <= right and left ^ right <= set(found.out) else None


def _matmul(node: Node, input: Any, other: Any = None, mat2: Any = None) -> Contraction | None:
    other = mat2 if other is None else other
    if not (is_tensor(input) and is_tensor(other)):
        return None
    ranks = len(shape(input)), len(shape(other))
    if min(ranks) < 2:
        return None
    batch = ascii_letters[: max(ranks) - 2]
    left, right = (batch[len(batch) - (rank - 2) :] for rank in ranks)
    return Contraction(node, input, other, f"{left}XY", f"{right}YZ", f"{batch}XZ")


def _baddbmm(
    node: Node, input: Any, batch1: Any = None, batch2: Any = None, *, mat1: Any = None, mat2: Any = None,
    beta: Any = 1, alpha: Any = 1,
) -> Contraction | None:  # fmt: skip
    product = _matmul(node, mat1 if batch1 is None else batch1, mat2 if batch2 is None else batch2)
    kept = None if isinstance(beta, int | float) and beta == 0 else input
    return None if product is None else replace(product, alpha=alpha, beta=beta, added=kept)


def _einsum(node: Node, equation: Any, *operands: Any) -> Contraction | None:
    given = operands[0] if len(operands) == 1 and isinstance(operands[0], tuple | list) else operands
    if not isinstance(equation, str) or len(given) != 2 or not all(map(is_tensor, given)) or "->" not in equation:
        return None
    terms, _, out = equation.replace(" ", "").partition("->")
    left, right = terms.split(",")
    spare = [letter for letter in ascii_letters if letter not in equation]
    wide = max(len(shape(x)) - len(term) + 3 for x, term in zip(given, (left, right), strict=True) if "..." in term) \
        if "..." in terms else 0  # fmt: skip
    dots = "".join(spare[:wide])
    named = []
    for x, term in zip(given, (left, right), strict=True):
        count = len(shape(x)) - len(term) + 3 if "..." in term else 0
        named.append(term.replace("...", dots[len(dots) - count :]))
    return Contraction(node, given[0], given[1], named[0], named[1], out.replace("...", dots))


RULES: dict[str, Callable[..., Contraction | None]] = {
    "matmul": _matmul,
    "bmm": _matmul,
    "mm": _matmul,
    "baddbmm": _baddbmm,
    "addmm": _baddbmm,
    "einsum": _einsum,
}
