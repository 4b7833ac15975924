"""A call to tune: what is computed, on which tensors, in which direction. It travels to the processes that measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attngen.autotune.key import Direction, Key, structure
from attngen.autotune.situation import Situation
from attngen.codegen.backend import Backend, Call
from attngen.codegen.backends import for_device
from attngen.codegen.devices import Device, named
from attngen.codegen.plan import Plan, make_plan
from attngen.codegen.problem import Problem
from attngen.ir import nodes
from attngen.ir.text import text
from attngen.ir.walk import views

if TYPE_CHECKING:
    from torch import Tensor

SHORT = 301, 331
"""Queries and keys of a call that is short enough for the dense oracle: some tiles, and no whole number of them."""
MOST_PAIRS = 1 << 25
"""The oracle takes memory for every pair."""


@dataclass(frozen=True, eq=False)
class Workload:
    """`operands` are q, k and v in the layout, `inputs` the tensors of the spec, `numbers` its integers, then floats.

    `wanted`: the inputs whose gradients a backward makes. `backend` and `device` (torch's, such as cuda:0) say where.
    `elsewhere`: a GPU of the table that is not here; the tensors are on the CPU then, and only say how large they are.
    """

    spec: nodes.Spec
    problem: Problem
    backend: str
    device: str
    layout: str
    sizes: tuple[int, int, int, int]
    operands: tuple[Tensor, Tensor, Tensor]
    inputs: tuple[Tensor, ...] = ()
    numbers: tuple[float, ...] = ()
    direction: Direction = "forward"
    wanted: frozenset[str] = frozenset()
    elsewhere: str = ""

    @cached_property
    def plan(self) -> Plan:
        return make_plan(self.spec, self.problem)

    @cached_property
    def target(self) -> Backend:
        """The backend."""
        if self.elsewhere and self.gpu is not None:
            from attngen.codegen.backends.triton.backend import TritonBackend

            return TritonBackend("cuda", self.gpu.capability[0])
        return for_device(self.device.partition(":")[0], self.backend)[0]

    @cached_property
    def gpu(self) -> Device | None:
        """The GPU that it is for, as the table of devices has it."""
        if self.elsewhere:
            return named(self.elsewhere)
        if not self.device.startswith("cuda"):
            return None
        import torch

        return named(torch.cuda.get_device_name(self.device))

    @property
    def backward(self) -> bool:
        return self.direction == "backward"

    @property
    def call(self) -> Call:
        n_b, n_h, n_q, n_k = self.sizes
        return Call(n_b, n_h, n_q, n_k, self.layout, (*self.operands, *self.inputs))

    @property
    def situation(self) -> Situation:
        return Situation(structure(text(self.spec)), self.call, self.numbers)

    @property
    def key(self) -> Key:
        """Where its measurements are filed."""
        return self.situation.key(self.plan, self.target, self.direction)

    @property
    def shape(self) -> str:
        """B,Hq,Hkv,Nq,Nk,D,Dv, as `--shape` has it."""
        n_b, n_h, n_q, n_k = self.sizes
        q, k, v = self.operands
        heads = k.shape[2 if self.layout == "bnhd" else 1]
        return ",".join(map(str, (n_b, n_h, heads, n_q, n_k, q.shape[-1], v.shape[-1])))

    def save(self, path: Path) -> None:
        """Writes it for a process of this machine."""
        import torch

        tensors = {"operands": self.operands, "inputs": self.inputs}
        others = {name: getattr(self, name) for name in OTHERS}
        torch.save({"spec": text(self.spec), "threads": torch.get_num_threads(), **tensors, **others}, path)

    @classmethod
    def load(cls, path: Path) -> Workload:
        """Reads what `save` wrote, and takes as many threads as there."""
        import torch

        from attngen.ir.parse import parse

        body: dict[str, Any] = torch.load(path, weights_only=False)
        torch.set_num_threads(body.pop("threads"))
        return cls(parse(body.pop("spec")), **body)


OTHERS = ("problem", "backend", "device", "layout", "sizes", "numbers", "direction", "wanted", "elsewhere")


def shortened(work: Workload) -> Workload | None:
    """The same call with so few tokens and batches that the dense oracle can follow; None where it cannot be cut."""
    n_b, n_h, n_q, n_k = work.sizes
    spec = work.spec
    fixed = isinstance(spec.space, nodes.Segments | nodes.Paged)
    uncut = fixed or isinstance(spec.space, nodes.Grid) or bool(spec.routers)
    b = n_b if fixed else min(1, n_b)
    q, k = (n_q, n_k) if uncut else (min(n_q, SHORT[0]), min(n_k, SHORT[0] if n_k == n_q else SHORT[1]))
    if max(1, b) * n_h * q * k > MOST_PAIRS:
        return None
    tokens = 1 if work.layout == "bnhd" else 2
    by_axis = {"b": b, "q": q, "kv": k}
    viewed = {view.tensor for view in views(spec)}
    tensors = [i for i in spec.inputs if i.axes]
    inputs = tuple(
        _cut(tensor, {0: b} if declared.name in viewed else _axes(declared.axes, by_axis))
        for declared, tensor in zip(tensors, work.inputs, strict=True)
    )
    pages = isinstance(spec.space, nodes.Paged)
    query, *keys = work.operands
    operands = (_cut(query, {0: b, tokens: q}), *(t if pages else _cut(t, {0: b, tokens: k}) for t in keys))
    return replace(work, sizes=(b, n_h, q, k), operands=operands, inputs=inputs)  # type: ignore[arg-type]


def _axes(labels: Sequence[str], sizes: dict[str, int]) -> dict[int, int]:
    return {axis: sizes[label] for axis, label in enumerate(labels) if label in sizes}


def _cut(tensor: Tensor, sizes: dict[int, int]) -> Tensor:
    """The beginning of a tensor along these axes; an axis of 1 serves every size."""
    for axis, size in sizes.items():
        if tensor.shape[axis] > max(1, size):
            tensor = tensor.narrow(axis, 0, size)
    return tensor
