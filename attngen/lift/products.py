"""The second product of an attention, weights times values, and `scaled_dot_product_attention`, in one form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from attngen.ir.expr import Expr, const, sym
from attngen.lift.contractions import Contraction
from attngen.lift.fold import fold
from attngen.lift.indices import Indices, Unclear, number
from attngen.lift.operands import WIDTH

if TYPE_CHECKING:
    from torch.fx import Node


@dataclass(frozen=True, slots=True)
class Roles:
    """Which letter of weights times values is what. `batch` is b; `heads`, from the outermost in, are h together."""

    query: str
    key: str
    width: str
    batch: str
    heads: str
    sizes: dict[str, Any]

    def index(self, letters: str) -> Indices:
        """The index of an element (b, h, q, kv, d) of a tensor with these letters."""
        return tuple(self._element(letter) for letter in letters)

    def _element(self, letter: str) -> Expr:
        if letter in self.heads:
            place = self.heads.index(letter)
            behind = prod(number(self.sizes[x]) for x in self.heads[place + 1 :])
            found: Expr = sym("h")
            if behind != 1:
                found = fold("floordiv", (found, const(behind)))
            return found if place == 0 else fold("mod", (found, const(number(self.sizes[letter]))))
        names = {self.query: sym("q"), self.key: sym("kv"), self.width: WIDTH, self.batch: sym("b")}
        return names[letter]

    @property
    def n_q(self) -> Any:
        return self.sizes[self.query]

    @property
    def n_k(self) -> Any:
        return self.sizes[self.key]

    @property
    def n_b(self) -> Any:
        return self.sizes[self.batch] if self.batch else 1

    @property
    def n_h(self) -> Any:
        return prod(self.sizes[x] for x in self.heads) if self.heads else 1


def candidates(product: Contraction) -> Iterator[tuple[Node, Node, str, str, Roles]]:
    """Each way in which a product can be weights times values: weights, values, their letters, roles."""
    for each in (product, product.turned()):
        only_left = [x for x in each.of_left if x in each.out and x not in each.of_right]
        only_right = [x for x in each.of_right if x in each.out and x not in each.of_left]
        if not only_left or len(only_right) != 1 or len(each.summed) != 1:
            continue
        shared = [x for x in each.of_left if x in each.out and x in each.of_right]
        query, groups = only_left[-1], only_left[:-1]
        batch = shared[0] if len(shared) + len(groups) > 1 and shared else ""
        heads = "".join([*(x for x in shared if x != batch), *groups])
        roles = Roles(query, each.summed, only_right[0], batch, heads, each.sizes())
        try:
            roles.index(each.of_left)
        except Unclear:
            continue
        yield each.left, each.right, each.of_left, each.of_right, roles


def restored(roles: Roles, out: str) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """The methods that make the result of the product of (B, H, N, D)."""
    steps: list[tuple[str, tuple[Any, ...]]] = []
    letters = [roles.batch, *roles.heads, roles.query, roles.width]
    if len(roles.heads) > 1:
        steps.append(("unflatten", (1, tuple(number(roles.sizes[x]) for x in roles.heads))))
    if not roles.heads:
        steps.append(("select", (1, 0)))
    if not roles.batch:
        steps.append(("select", (0, 0)))
        letters = letters[1:]
    order = tuple(letters.index(x) for x in out)
    if order != tuple(range(len(out))):
        steps.append(("permute", order))
    return tuple(steps)
