"""The call that the options describe: shape, dtype, device, backend."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from attngen import settings
from attngen.errors import InputError
from attngen.suggest import nearest

if TYPE_CHECKING:
    from attngen.cli.target import Target
    from attngen.kernel import Kernel
    from attngen.samples import Sample, Shape

DTYPES = ("fp32", "bf16", "fp16", "fp64")


def kernel_of(target: Target, backend: str | None) -> Kernel:
    """The kernel of the target on a backend, if one is named."""
    from attngen.kernel import Kernel

    if backend is not None and backend not in settings.CHOICES["backend"]:
        known = settings.CHOICES["backend"]
        raise InputError(f"--backend: got {backend!r}; allowed: {', '.join(known)}{nearest(backend, known)}")
    return Kernel(target.spec, layout=target.layout, backend=backend or target.backend)


def shape_of(target: Target, shape: str | None, head_dim: int | None = None, tokens: int = 1024) -> Shape:
    """`--shape`, or a shape that fits the spec."""
    from attngen.samples import Shape, limits

    if shape is not None:
        given = Shape.parse(shape)
        if head_dim not in (None, given.d):
            raise InputError(f"--head-dim: got {head_dim}, but --shape has D={given.d}; give one of them")
        return given
    if head_dim is not None and head_dim < 1:
        raise InputError(f"--head-dim: got {head_dim}; allowed: an integer >= 1")
    width = head_dim or 64
    return limits(target.spec).fit(replace(Shape(1, 8, 8, tokens, tokens, width, width)))


def sample_of(target: Target, shape: Shape, dtype: str, device: str) -> Sample:
    """Random tensors for the call, in the layout of the target."""
    from attngen.samples import sample

    if dtype not in DTYPES:
        raise InputError(f"--dtype: got {dtype!r}; allowed: {', '.join(DTYPES)}{nearest(dtype, DTYPES)}")
    made = sample(target.spec, shape, dtype, device=checked_device(device))
    if target.layout == "bhnd":
        return made
    q, k, v = (t.transpose(1, 2).contiguous() for t in (made.q, made.k, made.v))
    return replace(made, q=q, k=k, v=v)


def checked_device(device: str) -> str:
    """The device, if this machine has it."""
    import torch

    try:
        wanted: Any = torch.device(device)
    except RuntimeError:
        raise InputError(f"--device: got {device!r}; allowed: {', '.join(_devices())}") from None
    if wanted.type != "cpu" and device not in _devices() and wanted.type not in _devices():
        raise InputError(f"--device: {device!r} is not on this machine; allowed: {', '.join(_devices())}")
    return device


def _devices() -> list[str]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ["cpu", *(["cuda"] if count else []), *(f"cuda:{i}" for i in range(count))]
