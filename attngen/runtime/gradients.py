"""What the engine adds to the backward of a backend: which gradients are asked for, and how they lie in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.ir.expr import loads
from attngen.ir.nodes import Project, Spec
from attngen.ir.walk import expressions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from attngen.codegen.backend import BackwardLaunch


def read_by_expressions(spec: Spec) -> frozenset[str]:
    """The inputs that are read other than by views: a backend makes their gradients only where they are wanted."""
    found = {load.tensor for load in loads(*expressions(spec))}
    found.update(branch.decay for branch in spec.branches if branch.decay is not None)
    if isinstance(spec.combine, Project):
        found.update(name for name in spec.combine.weights if name is not None)
    return frozenset(found)


def with_memory(launch: BackwardLaunch, tensors: Sequence[Tensor], wanted: Sequence[bool]) -> BackwardLaunch:
    """The launch with a gradient for every wanted tensor, in the memory that tracing promised.

    A tensor that nothing depends on has a gradient of zeros. What is not wanted may have a gradient nevertheless.
    """
    import torch

    promised = [
        (place, torch.empty_like(tensor, device="meta").stride())
        for place, (tensor, asked) in enumerate(zip(tensors, wanted, strict=True))
        if asked
    ]

    def checked(dout: Tensor, dlse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, rows: Tensor | None,
                inputs: Sequence[Tensor], scalars: Sequence[float]) -> list[Tensor | None]:  # fmt: skip
        found = launch(dout, dlse, q, k, v, rows, inputs, scalars)
        for place, strides in promised:
            gradient = found[place]
            if gradient is None:
                found[place] = torch.zeros_like((q, k, v, *inputs)[place])
            elif gradient.stride() != strides:
                moved = torch.empty_strided(gradient.shape, strides, dtype=gradient.dtype, device=gradient.device)
                found[place] = moved.copy_(gradient)
        return found

    return checked
