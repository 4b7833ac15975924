"""Projections of branches: (P V) W = P (V W), so that the values are projected before the loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attngen.codegen.lower.produced import Extents, Numbers, Produced, Tensors, placeholder, viewed
from attngen.codegen.lower.unseen import times
from attngen.errors import InputError
from attngen.ir.expr import Const, Expr, Op, Sym, symbols
from attngen.ir.normalizer import Chained, Normalizer, Ordered, Streaming, Threshold

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Projected:
    """The values of a view times the weight W (Dv, Do), for every head of their tensor."""

    name: str
    tokens: str
    tensor: str
    start: int
    stop: int
    weight: str
    dtype: str
    width: int

    @property
    def made(self) -> tuple[Produced, ...]:
        return (viewed(self.name, self.tokens, self.dtype, self.width),)

    def make(self, tensors: Tensors, numbers: Numbers, extents: Extents) -> tuple[Tensor, ...]:
        v = tensors[self.tensor][..., self.start : self.stop]
        return (times(v, tensors[self.weight].to(v.dtype)).contiguous(),)

    def placeholders(self, tensors: Tensors, extents: Extents) -> tuple[Tensor, ...]:
        v = tensors[self.tensor]
        check_rows(self.weight, tensors, self.stop - self.start)
        return (placeholder((*v.shape[:3], self.width), v.dtype),)


def check_rows(weight: str, tensors: Tensors, width: int) -> None:
    """Raises where a projection does not fit values of this width."""
    rows = tensors[weight].shape[0]
    if rows != width:
        raise InputError(f"{weight}: got {rows} rows; the values are {width} wide")


def is_linear(normalizer: Normalizer) -> bool:
    """Whether the result of a row is shown to be linear in the sums of values, channel by channel alike."""
    match normalizer:
        case Streaming(finalize=finalize):
            return _linear(finalize)
        case Chained(passes=passes):
            return _linear(passes[-1].finalize)
        case Threshold() | Ordered():
            return True


def _linear(expr: Expr) -> bool:
    """acc | vsum | 0 | linear +- linear | linear * free | linear / free | where(free, linear, linear)"""
    match expr:
        case Sym(name="acc" | "vsum"):
            return True
        case Const(value=value):
            return value == 0
        case Op(name="add" | "sub", args=(a, b)):
            return _linear(a) and _linear(b)
        case Op(name="neg", args=(a,)):
            return _linear(a)
        case Op(name="mul", args=(a, b)):
            return (_linear(a) and _free(b)) or (_free(a) and _linear(b))
        case Op(name="truediv" | "safe_div", args=(a, b)):
            return _linear(a) and _free(b)
        case Op(name="where", args=(c, a, b)):
            return _free(c) and _linear(a) and _linear(b)
        case _:
            return False


def _free(expr: Expr) -> bool:
    """The same for all channels, and of no sum of values."""
    return not symbols(expr) & {"acc", "vsum", "dim"}
