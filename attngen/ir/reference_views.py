"""Operands as views read them: heads chosen, the head dimension cut, features applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.errors import InputError
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.nodes import View
from attngen.ir.reference_call import Call

if TYPE_CHECKING:
    from torch import Tensor


def read_view(call: Call, view: View, used: Tensor | None) -> Tensor:
    """The operand as (batches, n_h, tokens, width). Vectors that are not `used` (batches, n_h, tokens) become ones."""
    import torch

    tensor = call.operands[view.tensor]
    heads, width = tensor.shape[1], tensor.shape[3]
    h = torch.arange(call.n_h, device=call.device)
    numbers = {"n_h": call.n_h, "heads": heads, "d": width}
    env = Environment({"h": h, **{name: torch.tensor(n) for name, n in numbers.items()}})
    chosen = h * heads // max(1, call.n_h) if view.head is None else evaluate(view.head, env).expand(call.n_h)
    start = 0 if view.start is None else int(evaluate(view.start, env))
    stop = width if view.stop is None else int(evaluate(view.stop, env))
    if not 0 <= start < stop <= width:
        raise InputError(f"{view.tensor}: a view reads {start} .. {stop - 1} of a head dimension of {width}")
    tensor = tensor[:, chosen, :, start:stop]
    if call.segment is not None and tensor.shape[0] > 1:
        tensor = tensor[call.segment : call.segment + 1]
    tensor = tensor.expand(call.batches, -1, -1, -1)
    if used is not None:
        tensor = torch.where(used[..., None], tensor, 1.0)
    if view.feature is None:
        return tensor
    # A map that does not read x is one number.
    return evaluate(view.feature, Environment({"x": tensor}, call.inputs)).expand(tensor.shape)
