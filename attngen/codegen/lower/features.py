"""Views with a feature map: phi(x) is made before the loop, once for each token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attngen.codegen.lower.eager import featured
from attngen.codegen.lower.produced import Extents, Numbers, Produced, Tensors, placeholder, viewed
from attngen.codegen.lower.unseen import by_vectors
from attngen.codegen.problem import Problem
from attngen.ir.nodes import View

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Featured:
    """The vectors of a view after its feature map, for every head of its tensor."""

    name: str
    tokens: str
    view: View
    start: int
    stop: int
    dtype: str

    @property
    def made(self) -> tuple[Produced, ...]:
        return (viewed(self.name, self.tokens, self.dtype, self.stop - self.start),)

    def make(self, tensors: Tensors, numbers: Numbers, extents: Extents) -> tuple[Tensor, ...]:
        assert self.view.feature is not None
        feature = self.view.feature
        x = tensors[self.view.tensor][..., self.start : self.stop]
        return (by_vectors(x, lambda each: featured(each, feature, numbers).contiguous()),)

    def placeholders(self, tensors: Tensors, extents: Extents) -> tuple[Tensor, ...]:
        x = tensors[self.view.tensor]
        return (placeholder((*x.shape[:3], self.stop - self.start), x.dtype),)


def featured_view(name: str, tokens: str, view: View, extent: tuple[int, int], problem: Problem) -> Featured:
    """The producer of a view; reads of the made tensor keep its map of heads."""
    return Featured(name, tokens, View(view.tensor, feature=view.feature), *extent, problem.operand(view.tensor).dtype)
