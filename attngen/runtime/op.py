"""The torch operator. Stateless: it carries the spec as text, so it survives torch.compile and torch.export.

Two operators instead of one with an option: a call that wants no log-sum-exp should not pay for a second tensor. A raw
library operator costs a third of a `custom_op`; gradients have operators of their own (`gradient_op`), which `autograd`
puts together. This module is light: the engine is imported by the first call, so that defining the operator costs
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from attngen.codegen.result import result_memory
from attngen.errors import InputError
from attngen.runtime.dispatch import CAST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

ARGUMENTS = "Tensor q, Tensor k, Tensor v, Tensor[] inputs, SymInt[] ints, float[] floats, str spec, str options"
LIBRARY: Any = torch.library.Library("attngen", "DEF")  # type: ignore[no-untyped-call]
LIBRARY.define(f"forward({ARGUMENTS}) -> Tensor")
LIBRARY.define(f"forward_lse({ARGUMENTS}) -> (Tensor, Tensor)")


def engine(text: str, options: str) -> Any:
    """The engine; replaced by the real one at the first call."""
    from attngen.runtime.engine import engine as real

    globals()["engine"] = real
    return real(text, options)


def refuse_gradient(*tensors: Tensor) -> None:
    """The operator itself has no gradient: a graph that reaches it is not cut silently."""
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        raise InputError(
            "q, k, v: require grad, and the raw operators of attngen have no gradient; "
            "call the kernel, or use torch.no_grad()"
        )


def forward(
    q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], ints: Sequence[int], floats: Sequence[float],
    spec: str, options: str,
) -> Tensor:  # fmt: skip
    """The result alone."""
    refuse_gradient(q, k, v, *inputs)
    return engine(spec, options).forward(q, k, v, inputs, ints, floats, False)[0]  # type: ignore[no-any-return]


def forward_lse(
    q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], ints: Sequence[int], floats: Sequence[float],
    spec: str, options: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The result and the log-sum-exp of every row."""
    refuse_gradient(q, k, v, *inputs)
    return engine(spec, options).forward(q, k, v, inputs, ints, floats, True)[:2]  # type: ignore[no-any-return]


def fake_results(
    q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], ints: Sequence[int], floats: Sequence[float],
    spec: str, options: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Shape, strides and dtype of the result and of the log-sum-exp, for tracing."""
    prepared = engine(spec, options)
    sizes, width = prepared.result_sizes(q, k, v, inputs)
    shape, strides = result_memory((sizes.n_b, sizes.n_h, sizes.n_q, width), q.stride(), prepared.layout)
    row_type = torch.float64 if q.dtype == torch.float64 else torch.float32
    out = q.new_empty_strided(shape, strides)
    return out, q.new_empty((sizes.n_b, sizes.n_h, sizes.n_q), dtype=row_type)


def fake_forward(*args: Any) -> Tensor:
    """The result alone, for tracing."""
    return fake_results(*args)[0]


def _autocast(operator: Any) -> Any:
    """Under autocast q, k, v and what views read come in the autocast dtype, as q, k and v do for FlexAttention."""

    def cast(q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], *rest: Any) -> Any:
        device = q.device.type
        dtype = torch.get_autocast_dtype(device)
        viewed = engine(rest[2], rest[3]).views_of_inputs
        with torch.autocast(device, enabled=False):
            q, k, v = (t.to(dtype) if t.dtype in CAST else t for t in (q, k, v))
            inputs = [t.to(dtype) if i in viewed and t.dtype in CAST else t for i, t in enumerate(inputs)]
            return operator(q, k, v, inputs, *rest)

    return cast


def implement(name: str, real: Any, fake: Any) -> None:
    """What the operator does, on tensors and while torch traces.

    torch.compile is kept out of the first: after a graph break it would trace the Python that runs in there.
    """
    frames = torch._C._dynamo.eval_frame
    skip = frames._FrameAction.SKIP
    frames.set_code_exec_strategy(real.__code__, frames._FrameExecStrategy(skip, skip))
    LIBRARY.impl(name, real, "CompositeExplicitAutograd")
    torch.library.register_fake(f"attngen::{name}", fake, lib=LIBRARY)


def implement_autocast(name: str, operator: Any) -> None:
    """Lets the operator cast under autocast."""
    for key in ("AutocastCPU", "AutocastCUDA"):
        LIBRARY.impl(name, _autocast(operator), key)


implement("forward", forward, fake_forward)
implement("forward_lse", forward_lse, fake_results)
implement_autocast("forward", torch.ops.attngen.forward.default)
implement_autocast("forward_lse", torch.ops.attngen.forward_lse.default)
