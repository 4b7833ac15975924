"""What the reference computes on: the tensors of a call by name, checked, in float64, and the sizes of the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from attngen.errors import InputError
from attngen.ir.evaluate_ops import dtype_of
from attngen.ir.nodes import Grid, Input, Paged, Segments, Spec
from attngen.ir.reference_heads import result_heads
from attngen.ir.walk import views

if TYPE_CHECKING:
    import torch
    from torch import Tensor

OPERANDS = ("q", "k", "v")


@dataclass(frozen=True, slots=True)
class Call:
    """`operands` are what views read; `inputs` what expressions load, expanded along their axes "b" and "h".

    `n_b`, `n_h` and `n_q` size the result. A segment carries its number in `segment` and the number of segments in
    `n_b`. `lengths` are the keys of each batch (B, 1, 1, 1) in a paged cache.
    """

    spec: Spec
    operands: Mapping[str, Tensor]
    inputs: Mapping[str, Tensor]
    n_b: int
    n_h: int
    segment: int | None = None
    lengths: Tensor | None = None

    @property
    def n_q(self) -> int:
        return self.operands["q"].shape[2]

    @property
    def n_k(self) -> int:
        return self.operands["k"].shape[2]

    @property
    def batches(self) -> int:
        """The batch size of every tensor that is computed: one at a time for segments."""
        return self.n_b if self.segment is None else 1

    @property
    def device(self) -> torch.device:
        return self.operands["q"].device


def bind(spec: Spec, tensors: Mapping[str, Tensor | bool | int | float]) -> Call:
    """Checks the tensors of a call against the spec; raises `InputError` naming the argument."""
    import torch

    declared = {i.name: i for i in spec.inputs}
    known = [*OPERANDS, *declared]
    for name in tensors:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise InputError(f"{name}: not an input of this spec; {hint}")
    given: dict[str, Tensor] = {}
    for name in known:
        if name not in tensors:
            raise InputError(f"{name}: missing; this spec needs {', '.join(known)}")
        value = tensors[name]
        tensor = value if isinstance(value, torch.Tensor) else _number(value)
        given[name] = tensor.to(dtype_of(declared[name].type if name in declared else "float"))
        rank = len(declared[name].axes) if name in declared else 4
        if tensor.dim() != rank:
            raise InputError(
                f"{name}: got rank {tensor.dim()} (shape {tuple(tensor.shape)}); {rank} dimensions are needed"
            )
    paged = isinstance(spec.space, Paged)
    viewed = {view.tensor for view in views(spec)} | set(OPERANDS)
    operands = {name: given[name] for name in given if name in viewed}
    outer = {n: t for n, t in operands.items() if not (paged and n in ("k", "v"))}
    n_b = _batches(spec, given, outer)
    call = Call(spec, operands, {}, n_b, result_heads(spec, {n: t.shape[1] for n, t in operands.items()}))
    if not paged and call.n_k != operands["v"].shape[2]:
        raise InputError(f"v: got {operands['v'].shape[2]} keys, but k has {call.n_k}")
    _check_grid(call)
    inputs = {i.name: _fit(i, given[i.name], call, viewed) for i in spec.inputs}
    return replace(call, inputs=inputs)


def _number(value: float) -> Tensor:
    import torch

    # torch.tensor(0.1) has the 24 bits of the default dtype.
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)


def _batches(spec: Spec, given: Mapping[str, Tensor], outer: Mapping[str, Tensor]) -> int:
    if isinstance(spec.space, Segments):
        for name in OPERANDS:
            if given[name].shape[0] != 1:
                raise InputError(f"{name}: got batch {given[name].shape[0]}; packed sequences have batch 1")
        return max(0, given[spec.space.q_offsets].shape[0] - 1)
    sizes = {name: t.shape[0] for name, t in outer.items()}
    largest = 0 if 0 in sizes.values() else max(sizes.values())
    for name, size in sizes.items():
        if size not in (1, largest):
            raise InputError(f"{name}: got batch {size}; {largest} or 1 is needed")
    return largest


def _check_grid(call: Call) -> None:
    if not isinstance(call.spec.space, Grid):
        return
    tokens = 1
    for size in call.spec.space.dims:
        tokens *= size
    for name in ("q", "k"):
        found = call.operands[name].shape[2]
        if found != tokens:
            dims = " x ".join(map(str, call.spec.space.dims))
            raise InputError(f"{name}: got {found} tokens, but the grid {dims} has {tokens}")


def _fit(node: Input, tensor: Tensor, call: Call, viewed: set[str]) -> Tensor:
    """The input with its labelled axes checked, and expanded to the batches and heads of the call."""
    wanted = {"b": call.n_b, "h": call.n_h, "q": call.n_q, "kv": call.n_k}
    shape = list(tensor.shape)
    for i, axis in enumerate(node.axes):
        if axis == "?" or (node.name in viewed and axis in ("b", "h")):
            continue
        if axis == "kv" and isinstance(call.spec.space, Paged):
            continue
        broadcasts = axis in ("b", "h") and shape[i] == 1
        if shape[i] != wanted[axis] and not broadcasts:
            allowed = f"{wanted[axis]} or 1" if axis in ("b", "h") else str(wanted[axis])
            raise InputError(f"{node.name}: got size {shape[i]} in dimension {i} ({axis!r}); {allowed} is needed")
        shape[i] = wanted[axis]
    return tensor.expand(shape)
