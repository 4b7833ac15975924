"""Random operands and inputs for a spec. The same seed gives the same numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from attngen.errors import InputError
from attngen.ir.nodes import Given, Grid, Input, Paged, Project, Segments
from attngen.ir.walk import views
from attngen.samples.shape import Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from attngen.spec import Spec

DTYPES = {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The arguments of one call: kernel(q, k, v, **inputs)."""

    shape: Shape
    q: Tensor
    k: Tensor
    v: Tensor
    inputs: Mapping[str, Any]


def sample(spec: Spec, shape: Shape, dtype: str = "fp32", *, device: str = "cpu", seed: int = 0) -> Sample:
    """Standard normal q, k, v of a shape in bhnd layout, and values for every input that the spec does not capture.

    `dtype`, that of all queries, keys and values, is fp64, fp32, bf16 or fp16. Raises `InputError` for an input whose
    shape its labels do not tell, and where the shape does not fit the space of the spec.
    """
    import torch

    make = _Maker(spec, shape, torch.Generator().manual_seed(seed))
    element, viewed = getattr(torch, DTYPES[dtype]), {view.tensor for view in views(spec.ir)}
    inputs: dict[str, Any] = {}
    for i in spec.inputs_needed:
        inputs[i.name] = make.input(i).to(device) if i.axes else make.number(i)
        if i.name in viewed:
            inputs[i.name] = inputs[i.name].to(element)
    q, k, v = (t.to(element).to(device) for t in make.operands())
    return Sample(shape, q, k, v, inputs)


class _Maker:
    def __init__(self, spec: Spec, shape: Shape, random: torch.Generator) -> None:
        self.spec, self.shape, self.random = spec, shape, random
        self.space = spec.ir.space
        if isinstance(self.space, Grid):
            tokens = 1
            for size in self.space.dims:
                tokens *= size
            for name, given in (("Nq", shape.nq), ("Nk", shape.nk)):
                if given != tokens:
                    dims = "x".join(map(str, self.space.dims))
                    raise InputError(f"--shape: got {name}={given}; the grid {dims} of this spec has {tokens} tokens")

    def normal(self, *size: int) -> Tensor:
        import torch

        return torch.randn(size, generator=self.random, dtype=torch.float64).float()

    def operands(self) -> tuple[Tensor, Tensor, Tensor]:
        s = self.shape
        batches = 1 if isinstance(self.space, Segments) else s.b
        keys = (batches, s.hkv, s.nk)
        if isinstance(self.space, Paged):
            keys = (self._pages(self.space) * s.b, s.hkv, self.space.page)
        return self.normal(batches, s.hq, s.nq, s.d), self.normal(*keys, s.d), self.normal(*keys, s.dv)

    def number(self, given: Input) -> bool | int | float:
        return {"bool": True, "int": max(1, self.shape.nk // 4), "float": 0.5}[given.type]

    def input(self, given: Input) -> Tensor:
        special = self._of_space(given.name)
        if special is not None:
            return special
        size = self._size(given)
        if given.type == "float":
            decays = {branch.decay for branch in self.spec.ir.branches}
            found = self.normal(*size)
            return -0.1 * found.abs() if given.name in decays else found
        return self._integers(given, size)

    def _size(self, given: Input) -> tuple[int, ...]:
        s = self.shape
        viewed = self._viewed(given.name)
        if viewed is not None:
            return viewed
        if isinstance(self.spec.ir.combine, Project) and given.name in self.spec.ir.combine.weights:
            return (s.dv, s.dv)
        for router in self.spec.ir.routers:
            if router.rule == Given(given.name):
                return (1, 1, -(-s.nq // router.query_block), -(-s.nk // router.key_block))
        known = {"b": s.b, "h": s.hq, "q": s.nq, "kv": s.nk}
        for axis, label in enumerate(given.axes):
            if label not in known:
                raise InputError(
                    f"{given.name}: this spec needs it per call, and the spec does not tell the size of its dimension "
                    f"{axis}; capture a tensor in the file of the spec instead"
                )
        return tuple(known[label] for label in given.axes)

    def _viewed(self, name: str) -> tuple[int, ...] | None:
        """The size of an input that is read as queries, keys or values."""
        s = self.shape
        for branch in self.spec.ir.branches:
            for i, keyset in enumerate(branch.all_keysets()):
                keys = s.nk if i == 0 else min(5 + i, s.nk)
                if keyset.v.tensor == name:
                    return (s.b, s.hkv, keys, s.dv)
                for dot in keyset.dots:
                    if dot.k.tensor == name:
                        return (s.b, s.hkv, keys, s.d)
                    if dot.q.tensor == name:
                        return (s.b, s.hq, s.nq, s.d)
        return None

    def _integers(self, given: Input, size: tuple[int, ...]) -> Tensor:
        """Class tables in -1 .. 1, positions in ascending groups (document ids), others as lengths up to Nk."""
        import torch

        if any(router.rule == Given(given.name) for router in self.spec.ir.routers):
            return torch.randint(-1, 2, size, generator=self.random)
        if given.type == "bool":
            return torch.rand(size, generator=self.random) < 0.5
        if {"q", "kv"} & set(given.axes):
            return (torch.rand(size, generator=self.random) < 0.1).long().cumsum(-1)
        return torch.randint(1, self.shape.nk + 1, size, generator=self.random)

    def _of_space(self, name: str) -> Tensor | None:
        import torch

        s = self.shape
        match self.space:
            case Segments(q_offsets=q, k_offsets=k) if name in (q, k):
                total = s.nq if name == q else s.nk
                return torch.tensor([0, *accumulate(total * (i + 1) // s.b - total * i // s.b for i in range(s.b))])
            case Paged(table=table) if name == table:
                pages = self._pages(self.space)
                return torch.randperm(pages * s.b, generator=self.random).reshape(s.b, pages)
            case Paged(lengths=lengths) if name == lengths:
                return torch.randint(1, s.nk + 1, (s.b,), generator=self.random)
        return None

    def _pages(self, space: Paged) -> int:
        return -(-self.shape.nk // space.page)
