"""Tensors that are made before the loop over keys, from the operands of a call: what the loop then reads as inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from attngen.codegen.derive.fold import fold_int
from attngen.codegen.problem import Operand
from attngen.ir.nodes import Input, View
from attngen.ir.ops import Type

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Tensors = Mapping[str, "Tensor"]
Numbers = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Extents:
    """The sizes of a call: batches, heads of the result, queries, keys."""

    n_b: int
    n_h: int
    n_q: int
    n_k: int


@dataclass(frozen=True, slots=True)
class Produced:
    """One made tensor: its declaration, and how a kernel sees it."""

    input: Input
    operand: Operand


class Producer(Protocol):
    """Makes some tensors with torch alone: no value is looked at on the host, and autograd gives their gradients."""

    @property
    def made(self) -> tuple[Produced, ...]: ...

    def make(self, tensors: Tensors, numbers: Numbers, extents: Extents) -> tuple[Tensor, ...]:
        """The tensors in the order of `made`, from those of the call and of earlier producers.

        What views read is (B, heads, tokens, channels), whatever the layout of the call.
        """
        ...

    def placeholders(self, tensors: Tensors, extents: Extents) -> tuple[Tensor, ...]:
        """Tensors of their shapes, strides and dtypes without memory, from such tensors. Raises `InputError` for
        shapes that do not fit."""
        ...


def viewed(name: str, tokens: str, dtype: str, width: int) -> Produced:
    """A made tensor that views read, of the dtype of the call; `tokens` labels its third axis."""
    return Produced(Input(name, ("b", "h", tokens, "?"), grad=True), Operand(name, dtype, 4, width))


def indexed(name: str, axes: tuple[str, ...], dtype: str) -> Produced:
    """A made tensor whose elements expressions read."""
    kind: Type = "float" if dtype.startswith("float") else "int"
    return Produced(Input(name, axes, kind, grad=kind == "float"), Operand(name, dtype, len(axes), 0))


def placeholder(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor without memory, contiguous. To compute on those would load torch's compiler, which takes seconds."""
    import torch

    return torch.empty(tuple(shape), dtype=dtype, device="meta")


def heads_of(view: View, heads: int, n_h: int) -> tuple[int, ...]:
    """Which head of its tensor a view reads for each head of the result."""
    if view.head is None:
        return tuple(h * heads // n_h for h in range(n_h))
    return tuple(fold_int(view.head, {"h": h, "n_h": n_h, "heads": heads}) for h in range(n_h))


def at_heads(tensor: Tensor, heads: tuple[int, ...]) -> Tensor:
    """The heads (axis 1) in this order. No index tensor is made: a device would have to be waited for."""
    import torch

    here = tensor.shape[1]
    if heads == tuple(range(here)):
        return tensor
    if len(set(heads)) == 1:
        return tensor[:, heads[0] : heads[0] + 1].expand(-1, len(heads), *tensor.shape[2:])
    times = len(heads) // here
    if heads == tuple(h // times for h in range(here * times)):
        return tensor.unsqueeze(2).expand(-1, -1, times, *tensor.shape[2:]).flatten(1, 2)
    return torch.stack([tensor[:, h] for h in heads], 1)
