"""torch.func and forward mode around a call: reverse mode is taken; what would give wrong derivatives is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch._C import _functorch
from torch.autograd import forward_ad

from attngen.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

GRAD = _functorch.TransformType.Grad
VMAP = _functorch.TransformType.Vmap
is_batch = _functorch.is_legacy_batchedtensor
is_wrapped = _functorch.is_functorch_wrapped_tensor


def in_transform(tensors: Iterable[Tensor]) -> bool | None:
    """None outside of torch.func's transforms; inside, whether grad or vjp is at work on any of the tensors.

    vmap and forward mode would cut tangents or fail without a word of what to do; they are refused.
    """
    if torch.compiler.is_compiling():
        if compiled_transform():
            raise InputError(
                "q, k, v: are inside a torch.func transform that torch.compile traces, and there the gradient of a "
                "kernel would be lost; leave out fullgraph=True, or torch.compile"
            )
        return None
    if _functorch.peek_interpreter_stack() is not None:
        found = set(transforms(tensors))
        if found - {GRAD}:
            raise InputError(
                "q, k, v: are inside a torch.func transform (vmap, jvp) that kernels do not take; "
                "call the kernel outside of it, with the mapped dimension as the batch"
            )
        return bool(found)
    if forward_ad._current_level >= 0:
        refuse_tangents(tensors)
    return None


def compiled_transform() -> bool:
    """Whether torch.compile traces code inside of a torch.func transform; it guards on that by itself."""
    return _functorch.peek_interpreter_stack() is not None


# What torch.compiler.assume_constant_result does, without its import of the whole of Dynamo.
compiled_transform._dynamo_marked_constant = True  # type: ignore[attr-defined]


def transforms(tensors: Iterable[Tensor]) -> Iterator[Any]:
    """The kinds of the transforms of torch.func that hold these tensors."""
    kinds = {level.level(): level.key() for level in _functorch.get_interpreter_stack() or ()}
    for tensor in tensors:
        while is_wrapped(tensor):
            yield kinds.get(_functorch.maybe_get_level(tensor))
            tensor = _functorch.get_unwrapped(tensor)


def refuse_tangents(tensors: Iterable[Tensor]) -> None:
    """Tangents of forward mode would be dropped."""
    for tensor in tensors:
        unpacked: Any = forward_ad.unpack_dual(tensor)  # type: ignore[no-untyped-call]
        if unpacked.tangent is not None:
            raise InputError("q, k, v: carry forward-mode tangents, which kernels do not compute; use kernel.reference")


def refuse_cotangents(cotangents: Iterable[Tensor | None]) -> None:
    """jacrev and the like ask for many gradients at once, by vmap of either generation; forward over reverse mode
    gives cotangents with tangents."""
    given = [tensor for tensor in cotangents if tensor is not None]
    found = set(transforms(given)) if _functorch.peek_interpreter_stack() is not None else set()
    if VMAP in found or any(is_batch(tensor) for tensor in given):
        raise InputError(
            "q, k, v: gradients of many cotangents were asked for at once (jacrev, is_grads_batched), which kernels do "
            "not compute; ask for them one by one"
        )
    if found - {GRAD}:
        raise InputError("q, k, v: carry forward-mode tangents, which kernels do not compute; use kernel.reference")
    if forward_ad._current_level >= 0:
        refuse_tangents(given)
