"""What nobody sees reaches no gradient: a cotangent of 0 gives 0, also where the tensor itself is NaN or infinite."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def by_vectors(x: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
    """make(x), which maps each vector (the last axis) for itself."""
    import torch

    given: Any = x.view_as(x)
    made: Any = make(given)
    if made.requires_grad:
        seen: list[Tensor] = []
        made.register_hook(lambda cotangent: seen.append((cotangent != 0).any(-1, keepdim=True)))
        given.register_hook(lambda gradient: torch.where(seen.pop(), gradient, 0.0))
    return made  # type: ignore[no-any-return]


def times(x: Tensor, weight: Tensor) -> Tensor:
    """x (..., C) @ weight (C, D)."""
    return _times().apply(x, weight)  # type: ignore[no-any-return]


@cache
def _times() -> Any:
    import torch

    class Times(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
            ctx.save_for_backward(x, weight)
            return x @ weight

        @staticmethod
        def backward(ctx: Any, cotangent: Tensor) -> Any:
            x, weight = ctx.saved_tensors
            for_x, for_weight = ctx.needs_input_grad
            dx = cotangent @ weight.mT if for_x else None
            if not for_weight:
                return dx, None
            seen = torch.where((cotangent != 0).any(-1, keepdim=True), x, 0.0)
            return dx, seen.flatten(0, -2).mT @ cotangent.flatten(0, -2)

    return Times
