"""The torch operator. Stateless: it carries the spec as text, so it survives torch.compile and torch.export.

Two overload-free operators instead of one, because a call that wants no log-sum-exp should not pay for a second tensor.
A raw library operator costs a third of a `custom_op`; gradients are the caller's concern.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from attngen.codegen.result import result_memory
from attngen.runtime.call import DTYPES, dtype_name
from attngen.runtime.engine import engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

ARGUMENTS = "Tensor q, Tensor k, Tensor v, Tensor[] inputs, SymInt[] ints, float[] floats, str spec, str options"
LIBRARY: Any = torch.library.Library("attngen", "DEF")  # type: ignore[no-untyped-call]
LIBRARY.define(f"forward({ARGUMENTS}) -> Tensor")
LIBRARY.define(f"forward_lse({ARGUMENTS}) -> (Tensor, Tensor)")


def forward(
    q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], ints: Sequence[int], floats: Sequence[float],
    spec: str, options: str,
) -> Tensor:  # fmt: skip
    """The result alone."""
    return engine(spec, options).forward(q, k, v, inputs, ints, floats, False)[0]


def forward_lse(
    q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], ints: Sequence[int], floats: Sequence[float],
    spec: str, options: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The result and the log-sum-exp of every row."""
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


def _autocast(operator: Any) -> Any:
    """Under autocast q, k and v come in the autocast dtype, as for FlexAttention."""

    def cast(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Any:
        device = q.device.type
        dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            q, k, v = (t.to(dtype) if dtype_name(t) in DTYPES and t.dtype != torch.float64 else t for t in (q, k, v))
            return operator(q, k, v, *rest)

    return cast


for _name, _real, _meta in (("forward", forward, fake_forward), ("forward_lse", forward_lse, _fake)):
    _operator = getattr(torch.ops.attngen, _name).default
    LIBRARY.impl(_name, _real, "CompositeExplicitAutograd")
    torch.library.register_fake(f"attngen::{_name}", _meta, lib=LIBRARY)
    for _key in ("AutocastCPU", "AutocastCUDA"):
        LIBRARY.impl(_name, _autocast(_operator), _key)
