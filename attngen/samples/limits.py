"""Which shapes a spec takes, as far as its space and the tensors that it captured tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING

from attngen.ir.expr import Sym, loads
from attngen.ir.nodes import Grid
from attngen.ir.walk import expressions

if TYPE_CHECKING:
    from attngen.samples.shape import Shape
    from attngen.spec import Spec

AXES = ("b", "h", "q", "kv")


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes by axis ("b", "h", "q", "kv"): those that a call must have, and the largest that it may have."""

    exact: dict[str, int] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)

    def fit(self, shape: Shape) -> Shape:
        """The nearest shape that is taken: fixed sizes replaced, others cut; query heads stay divisible."""
        b, hq, nq, nk = (
            self.exact.get(axis, min(size, self.most.get(axis, size)))
            for axis, size in zip(AXES, (shape.b, shape.hq, shape.nq, shape.nk), strict=True)
        )
        hkv = next(heads for heads in range(min(shape.hkv, hq), 0, -1) if hq % heads == 0)
        return replace(shape, b=b, hq=hq, hkv=hkv, nq=nq, nk=nk)


def limits(spec: Spec) -> Limits:
    """The limits of a spec."""
    exact: dict[str, int] = {}
    most: dict[str, int] = {}
    if isinstance(spec.ir.space, Grid):
        exact = {"q": prod(spec.ir.space.dims), "kv": prod(spec.ir.space.dims)}
    shapes = dict(_captured(spec))
    for declared in spec.ir.inputs:
        for label, size in zip(declared.axes, shapes.get(declared.name, ()), strict=False):
            if label in AXES and size > 1:
                exact[label] = size
    for node in loads(*expressions(spec.ir)):
        for index, size in zip(node.indices, shapes.get(node.tensor, ()), strict=False):
            if isinstance(index, Sym) and index.name in ("b", "h"):
                exact[index.name] = size
            elif isinstance(index, Sym) and index.name in AXES:
                most[index.name] = min(size, most.get(index.name, size))
    return Limits(exact, most)


def _captured(spec: Spec) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, binding in spec.bindings.items():
        value = binding.fetch()
        if hasattr(value, "shape"):
            yield name, tuple(value.shape)
