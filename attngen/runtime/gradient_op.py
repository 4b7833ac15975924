"""The torch operators of training: forwards that save what the backward needs of each row, and the backward.

Stateless as the forward in `op`, and without a gradient themselves: `autograd` makes one differentiable operation of
them. `rows` (B, H, Nq, columns) is the business of the backend that runs both directions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from attngen.runtime import op
from attngen.runtime.op import ARGUMENTS, LIBRARY, fake_results, implement, refuse_gradient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

LIBRARY.define(f"forward_save({ARGUMENTS}) -> (Tensor, Tensor)")
LIBRARY.define(f"forward_lse_save({ARGUMENTS}) -> (Tensor, Tensor, Tensor)")
_TENSORS, _, _NUMBERS = ARGUMENTS.partition(", Tensor[] inputs, ")
LIBRARY.define(
    f"backward(Tensor dout, Tensor? dlse, {_TENSORS}, Tensor rows, Tensor[] inputs, bool[] wanted, {_NUMBERS}) "
    "-> Tensor[]"
)


def forward_save(
    q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], ints: Sequence[int], floats: Sequence[float],
    spec: str, options: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The result, and the rows for the backward."""
    refuse_gradient(q, k, v, *inputs)
    out, _, rows = op.engine(spec, options).forward(q, k, v, inputs, ints, floats, False, True)
    return out, rows


def forward_lse_save(
    q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], ints: Sequence[int], floats: Sequence[float],
    spec: str, options: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The result, the log-sum-exp of every row, and the rows for the backward."""
    refuse_gradient(q, k, v, *inputs)
    return op.engine(spec, options).forward(q, k, v, inputs, ints, floats, True, True)  # type: ignore[no-any-return]


def backward(
    dout: Tensor, dlse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, rows: Tensor, inputs: Sequence[Tensor],
    wanted: Sequence[bool], ints: Sequence[int], floats: Sequence[float], spec: str, options: str,
) -> list[Tensor]:  # fmt: skip
    """The gradients of those of (q, k, v, *inputs) that are wanted, in this order, each as `torch.empty_like` of it.

    `dlse` is given exactly where the forward gave a log-sum-exp.
    """
    refuse_gradient(dout, q, k, v, *inputs)
    found = op.engine(spec, options).backward(dout, dlse, q, k, v, rows, inputs, ints, floats, wanted)
    return [gradient for gradient, asked in zip(found, wanted, strict=True) if asked]


def fake_save(*args: Any) -> tuple[Tensor, Tensor]:
    """Result and rows, for tracing."""
    out, _, rows = fake_lse_save(*args, return_lse=False)
    return out, rows


def fake_lse_save(*args: Any, return_lse: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Result, log-sum-exp and rows, for tracing."""
    q, k, v, inputs = args[:4]
    out, lse = fake_results(*args)
    columns = op.engine(args[6], args[7]).saved_columns(q, k, v, inputs, return_lse)
    return out, lse, lse.new_empty((*lse.shape, columns))


def fake_backward(
    dout: Tensor, dlse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, rows: Tensor, inputs: Sequence[Tensor],
    wanted: Sequence[bool], *rest: Any,
) -> list[Tensor]:  # fmt: skip
    """Gradients, for tracing."""
    return [torch.empty_like(t) for t, asked in zip((q, k, v, *inputs), wanted, strict=True) if asked]


implement("forward_save", forward_save, fake_save)
implement("forward_lse_save", forward_lse_save, fake_lse_save)
implement("backward", backward, fake_backward)
