"""What torch's dispatcher would decide by itself: devices and layouts, autocast, and whether it is needed at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.autograd import forward_ad

from attngen.errors import InputError
from attngen.runtime.transforms import is_batch, is_wrapped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor


def check_dispatch(q: Tensor, others: Iterable[tuple[str, Tensor]]) -> bool:
    """Refuses tensors that no kernel takes; gives whether a gradient by any of them may be asked for."""
    differentiable = False
    for name, tensor in (("q", q), *others):
        if not isinstance(tensor, torch.Tensor):
            raise InputError(f"{name}: got {type(tensor).__name__}; a torch.Tensor is needed")
        if tensor.layout is not torch.strided or tensor.is_nested:
            kind = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
            raise InputError(f"{name}: got a {kind} tensor; a dense (strided) one is needed")
        if tensor.device != q.device:
            raise InputError(f"{name}: is on {tensor.device}, but q is on {q.device}; move it there")
        differentiable = differentiable or tensor.requires_grad
    return differentiable and torch.is_grad_enabled()


CAST = (torch.float32, torch.float16, torch.bfloat16)


def autocast(tensors: tuple[Tensor, ...], cast: tuple[bool, ...]) -> tuple[Tensor, ...]:
    """The tensors as autocast wants them, where it is on: those marked in `cast` in its dtype. Differentiable, so
    gradients come back in the dtype that was given."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(t.to(dtype) if asked and t.dtype in CAST else t for t, asked in zip(tensors, cast, strict=True))


PLAIN = frozenset((torch.Tensor, torch.nn.Parameter))


def is_plain(tensors: Iterable[Tensor]) -> bool:
    """Whether an operator on these tensors would only ever reach its implementation: nothing traces, records, profiles
    or replaces operators now, and the memory of each tensor is what it says."""
    if (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._autograd._profiler_enabled()
        or torch._C._get_tracing_state() is not None
        or forward_ad._current_level >= 0
    ):
        return False
    for tensor in tensors:
        if type(tensor) not in PLAIN or tensor.is_neg() or is_wrapped(tensor) or is_batch(tensor):
            return False
        if tensor._is_zerotensor():
            return False
    return True
