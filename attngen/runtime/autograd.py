"""Gradients: one differentiable operation made of the raw operators.

A raw operator below an `autograd.Function` costs less than an operator with a registered gradient, and cuts nothing
silently: second derivatives and forward mode are refused. There are three Functions with one backward. `Attention` is
the plain one. `DirectAttention` is for ordinary calls, without the price of an operator. torch.func needs
`TransformedAttention`, whose `forward` does not see the context, at three times the price of a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from attngen.errors import InputError
from attngen.runtime import gradient_op as _gradient_op  # noqa: F401  (defines the operators)
from attngen.runtime import op
from attngen.runtime.dispatch import PLAIN, is_plain
from attngen.runtime.transforms import refuse_cotangents

if TYPE_CHECKING:
    from torch import Tensor

FORWARD = torch.ops.attngen.forward_save.default
FORWARD_LSE = torch.ops.attngen.forward_lse_save.default
BACKWARD = torch.ops.attngen.backward.default

Numbers = tuple[list[int], list[float], str, str]
"""What a call has beside tensors: run-time integers and floats, the spec as text, the options of the engine."""


class Attention(torch.autograd.Function):
    """apply(numbers, return_lse, q, k, v, *inputs) -> the result, or the result and the log-sum-exp."""

    @staticmethod
    def forward(ctx: Any, numbers: Numbers, return_lse: bool, q: Tensor, k: Tensor, v: Tensor, *inputs: Tensor) -> Any:
        ints, floats, spec, options = numbers
        ctx.numbers = numbers
        if return_lse:
            out, lse, rows = FORWARD_LSE(q, k, v, inputs, ints, floats, spec, options)
            ctx.save_for_backward(q, k, v, rows, *inputs)
            return out, lse
        out, rows = FORWARD(q, k, v, inputs, ints, floats, spec, options)
        ctx.save_for_backward(q, k, v, rows, *inputs)
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor, dlse: Tensor | None = None) -> Any:
        return gradients(ctx.numbers, ctx.needs_input_grad[2:], dout, dlse, *ctx.saved_tensors)


class DirectAttention(torch.autograd.Function):
    """The same without torch's dispatcher, where nothing but the engine could be at its other end (`is_plain`)."""

    @staticmethod
    def forward(ctx: Any, numbers: Numbers, return_lse: bool, q: Tensor, k: Tensor, v: Tensor, *inputs: Tensor) -> Any:
        ints, floats, spec, options = numbers
        ctx.numbers = numbers
        out, lse, rows = op.engine(spec, options).forward(q, k, v, inputs, ints, floats, return_lse, True)
        ctx.save_for_backward(q, k, v, rows, *inputs)
        return (out, lse) if return_lse else out

    @staticmethod
    def backward(ctx: Any, dout: Tensor, dlse: Tensor | None = None) -> Any:
        saved, numbers, wanted = ctx.saved_tensors, ctx.numbers, ctx.needs_input_grad[2:]
        cotangents = (dout,) if dlse is None else (dout, dlse)
        if torch.is_grad_enabled() or not is_plain(cotangents) or not PLAIN.issuperset(map(type, saved)):
            return gradients(numbers, wanted, dout, dlse, *saved)
        ints, floats, spec, options = numbers
        q, k, v, rows, *inputs = saved
        engine = op.engine(spec, options)
        return (None, None, *engine.backward(dout, dlse, q, k, v, rows, inputs, ints, floats, wanted))


# Function.apply also unwraps what torch.func left behind, which is_plain has ruled out; this is what it calls then.
apply_direct: Any = super(torch.autograd.Function, DirectAttention).apply


class TransformedAttention(torch.autograd.Function):
    """The same for torch.func: apply(...) -> (the result, the log-sum-exp or None, the rows)."""

    @staticmethod
    def forward(numbers: Numbers, return_lse: bool, q: Tensor, k: Tensor, v: Tensor, *inputs: Tensor) -> Any:
        ints, floats, spec, options = numbers
        if return_lse:
            return FORWARD_LSE(q, k, v, inputs, ints, floats, spec, options)
        out, rows = FORWARD(q, k, v, inputs, ints, floats, spec, options)
        return out, None, rows

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        numbers, return_lse, q, k, v, *others = inputs
        ctx.numbers, ctx.return_lse = numbers, return_lse
        ctx.mark_non_differentiable(output[2])
        ctx.save_for_backward(q, k, v, output[2], *others)

    @staticmethod
    def backward(ctx: Any, dout: Tensor, dlse: Tensor | None, _: Any) -> Any:
        cotangent = dlse if ctx.return_lse else None
        return gradients(ctx.numbers, ctx.needs_input_grad[2:], dout, cotangent, *ctx.saved_tensors)


def gradients(numbers: Numbers, wanted: tuple[bool, ...], dout: Tensor, dlse: Tensor | None, *saved: Tensor) -> Any:
    """What `backward` of either Function gives: a gradient or None for each of their arguments."""
    if not torch.compiler.is_compiling():
        refuse_cotangents((dout, dlse))
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        function: Any = Gradient  # create_graph: differentiable once only
        found = iter(function.apply(numbers, wanted, dout, dlse, *saved))
    else:
        ints, floats, spec, options = numbers
        q, k, v, rows, *inputs = saved
        found = iter(BACKWARD(dout, dlse, q, k, v, rows, inputs, wanted, ints, floats, spec, options))
    return (None, None, *(next(found) if asked else None for asked in wanted))


class Gradient(torch.autograd.Function):
    """The backward as an operation, so that asking for its gradient is an error and never zero."""

    @staticmethod
    def forward(numbers: Numbers, wanted: tuple[bool, ...], dout: Tensor, dlse: Tensor | None, *saved: Tensor) -> Any:
        ints, floats, spec, options = numbers
        q, k, v, rows, *inputs = saved
        return tuple(BACKWARD(dout, dlse, q, k, v, rows, inputs, wanted, ints, floats, spec, options))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        raise InputError(
            "q, k, v: a second derivative was asked for, which kernels do not compute; "
            "differentiate kernel.reference twice instead"
        )


def attention(tensors: tuple[Tensor, ...], numbers: Numbers, return_lse: bool, transformed: bool) -> Any:
    """The kernel of `numbers` on (q, k, v, *inputs), differentiable by each; `transformed`: inside of torch.func."""
    if not transformed:
        apply: Any = apply_direct if is_plain(tensors) else Attention.apply
        return apply(numbers, return_lse, *tensors)
    function: Any = TransformedAttention
    out, lse, _ = function.apply(numbers, return_lse, *tensors)
    return (out, lse) if return_lse else out
