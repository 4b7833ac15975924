"""The torch operator. Stateless: it carries the spec as text, so it survives torch.compile and torch.export.

Two operators instead of one with an option: a call that wants no log-sum-exp should not pay for a second tensor. A raw
library operator costs a third of a `custom_op`; gradients are the caller's concern. This module is light: the engine is
imported by the first call, so that defining the operator costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from attngen.codegen.result import result_memory
from attngen.errors import InputError

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
    """There is a forward only, so far: a graph that reaches the operator itself is not cut silently either."""
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        raise InputError("q, k, v: require grad, and this version computes forward only; use torch.no_grad()")


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
    out, lse = engine(spec, options).forward(q, k, v, inputs, ints, floats, True)
    assert lse is not None
    return out, lse


def _fake(*args: Any) -> tuple[Tensor, Tensor]:
    q, k, v = args[0], args[1], args[2]
    prepared = engine(args[6], args[7])
    sizes, width = prepared.result_sizes(q, k, v, args[3])
    shape, strides = result_memory((sizes.n_b, sizes.n_h, sizes.n_q, width), q.stride(), prepared.layout)
    row_type = torch.float64 if q.dtype == torch.float64 else torch.float32
    out = q.new_empty_strided(shape, strides)
    return out, q.new_empty((sizes.n_b, sizes.n_h, sizes.n_q), dtype=row_type)


def fake_forward(*args: Any) -> Tensor:
    """Shape and strides of the result, for tracing."""
    return _fake(*args)[0]


CAST = (torch.float32, torch.float16, torch.bfloat16)


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


for _name, _real, _meta in (("forward", forward, fake_forward), ("forward_lse", forward_lse, _fake)):
    _operator = getattr(torch.ops.attngen, _name).default
    LIBRARY.impl(_name, _real, "CompositeExplicitAutograd")
    torch.library.register_fake(f"attngen::{_name}", _meta, lib=LIBRARY)
    for _key in ("AutocastCPU", "AutocastCUDA"):
        LIBRARY.impl(_name, _autocast(_operator), _key)
