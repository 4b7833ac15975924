"""The torch operators of what torch.compile and torch.export trace: a call with its gradient as one node.

torch.export keeps operators and nothing else, and torch.compile does not take a tensor twice in an `autograd.Function`
(keys that are values), so here the gradient is registered with the operator. That costs a call of Python whenever one
is dispatched, which is why ordinary calls go through `op` and `autograd`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from attngen.runtime import op
from attngen.runtime.autograd import Attention

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

op.LIBRARY.define(f"attention({op.ARGUMENTS}) -> Tensor")
op.LIBRARY.define(f"attention_lse({op.ARGUMENTS}) -> (Tensor, Tensor)")


def differentiable(operator: Any, return_lse: bool) -> Callable[..., Any]:
    """The operator with the gradient of `autograd` where one may be asked for."""

    def run(
        q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], ints: Sequence[int], floats: Sequence[float],
        spec: str, options: str,
    ) -> Any:  # fmt: skip
        tensors = (q, k, v, *inputs)
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            function: Any = Attention
            return function.apply((ints, floats, spec, options), return_lse, *tensors)
        with torch._C._AutoDispatchBelowAutograd():
            return operator(q, k, v, inputs, ints, floats, spec, options)

    return run


ATTENTION = torch.ops.attngen.attention.default
ATTENTION_LSE = torch.ops.attngen.attention_lse.default

for _operator, _real, _meta in (
    (ATTENTION, op.forward, op.fake_forward),
    (ATTENTION_LSE, op.forward_lse, op.fake_results),
):
    _name = _operator._schema.name.partition("::")[2]
    op.implement(_name, _real, _meta)
    op.LIBRARY.impl(_name, differentiable(_operator, _real is op.forward_lse), "Autograd")
    op.implement_autocast(_name, _operator)
