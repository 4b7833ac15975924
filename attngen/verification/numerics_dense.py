"""What torch makes of a spec without a kernel: dense, in the precision of the call or in single precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from attngen.ir.reference import reference
from attngen.verification.dense import dense_rows

if TYPE_CHECKING:
    from torch import Tensor

    from attngen.ir.nodes import Spec


class Single(TorchFunctionMode):
    """Computes in float32 what asks for float64.

    The meaning of a spec is written down once, in the oracle, in double precision. Under this mode the same lines give
    what torch makes of them in single precision, as somebody would write them who has no kernel.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function is torch.Tensor.double:
            function = torch.Tensor.float
        return function(*map(_narrow, args), **{name: _narrow(value) for name, value in (kwargs or {}).items()})


def _narrow(value: Any) -> Any:
    return torch.float32 if value is torch.float64 else value


def same_precision(spec: Spec, tensors: Mapping[str, Any]) -> tuple[Tensor, Tensor | None] | None:
    """Result and log-sum-exp: both products in the dtype of q, the rest in float32; None where there is no such form.

    Scores are rounded to the dtype, as `q @ k.mT` rounds them, and so are the weights before they meet v.
    """
    with Single():
        return dense_rows(spec, tensors)


def formula(spec: Spec, tensors: Mapping[str, Any], return_lse: bool) -> Any:
    """The result, with `return_lse` also the log-sum-exp, with everything in float32."""
    with Single():
        return reference(spec, tensors, return_lse=True) if return_lse else reference(spec, tensors)
