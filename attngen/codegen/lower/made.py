"""What producers make for calls of one set of shapes, and how gradients of it come back to the tensors of the call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from attngen.codegen.backend import Call
from attngen.codegen.lower.prepare import Prepared
from attngen.codegen.lower.produced import Extents, Producer
from attngen.codegen.plan import Plan
from attngen.codegen.recorded import recorded
from attngen.ir.walk import views

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

Back = Callable[["list[Tensor | None]"], "list[Tensor | None]"]


class MadeCall:
    """Calls of one set of shapes. Nothing is looked at on the host, so nothing waits for a device."""

    def __init__(self, plan: Plan, prepared: Prepared, call: Call, wanted: frozenset[str] = frozenset()) -> None:
        self._prepared = prepared
        self._names = [operand.name for operand in plan.problem.operands]
        inputs = plan.spec.inputs
        self._scalars = [
            *(i.name for i in inputs if not i.axes and i.type != "float"),
            *(i.name for i in inputs if not i.axes and i.type == "float"),
        ]
        turned = call.layout == "bnhd"
        self._given_turned = {view.tensor for view in views(plan.spec)} if turned else set()
        self._made_turned = {view.tensor for view in views(prepared.spec)} if turned else set()
        self._differentiable = {"q", "k", "v", *(view.tensor for view in views(plan.spec)), *wanted}
        self._extents = Extents(call.n_b, call.n_h, call.n_q, call.n_k)
        shapes = [_meta(t) for t in call.operands]
        placeholders = self._each(shapes, lambda producer, named: producer.placeholders(named, self._extents))
        self.call = replace(call, operands=(*call.operands, *placeholders))

    def made(self, qkv: Sequence[Tensor], inputs: Sequence[Tensor], scalars: Sequence[float]) -> tuple[Tensor, ...]:
        """What the producers make of the tensors of a call."""
        import torch

        with torch.no_grad(), _without_autocast(qkv[0]):
            return self._make([*qkv, *inputs], scalars)

    def differentiated(
        self, qkv: Sequence[Tensor], inputs: Sequence[Tensor], scalars: Sequence[float]
    ) -> tuple[tuple[Tensor, ...], Back]:
        """What is made, and what gives the gradients of the tensors of a call from those of all that the loop reads."""
        import torch

        with recorded(), _without_autocast(qkv[0]):
            pairs = zip(self._names, (*qkv, *inputs), strict=True)
            leaves = [t.detach().requires_grad_(self._flows(name, t)) for name, t in pairs]
            made = self._make(leaves, scalars)

        def back(found: list[Tensor | None]) -> list[Tensor | None]:
            own, others = found[: len(leaves)], found[len(leaves) :]
            flows = [
                (tensor, gradient.to(tensor.dtype))
                for tensor, gradient in zip(made, others, strict=True)
                if tensor.requires_grad and gradient is not None
            ]
            chosen = [leaf for leaf in leaves if leaf.requires_grad]
            parts: Iterable[Tensor | None] = [None] * len(chosen)
            if flows and chosen:
                results, cotangents = zip(*flows, strict=True)
                with recorded(), _without_autocast(qkv[0]):
                    parts = torch.autograd.grad(results, chosen, cotangents, allow_unused=True)
            rest = iter(parts)
            return [
                _sum(mine, next(rest) if leaf.requires_grad else None) for leaf, mine in zip(leaves, own, strict=True)
            ]

        return tuple(t.detach() for t in made), back

    def _flows(self, name: str, tensor: Tensor) -> bool:
        return name in self._differentiable and tensor.is_floating_point()

    def _make(self, tensors: Sequence[Tensor], scalars: Sequence[float]) -> tuple[Tensor, ...]:
        numbers = dict(zip(self._scalars, scalars, strict=True))
        return self._each(tensors, lambda producer, named: producer.make(named, numbers, self._extents))

    def _each(
        self, tensors: Sequence[Tensor], make: Callable[[Producer, dict[str, Tensor]], Sequence[Tensor]]
    ) -> tuple[Tensor, ...]:
        """What each producer gives for the tensors of a call and what is there already, in the layout of the call."""
        named: dict[str, Tensor] = {
            name: t.transpose(1, 2) if name in self._given_turned else t
            for name, t in zip(self._names, tensors, strict=True)
        }
        found: list[Tensor] = []
        for producer in self._prepared.producers:
            for one, tensor in zip(producer.made, make(producer, named), strict=True):
                name = one.input.name
                named[name] = tensor
                found.append(tensor.transpose(1, 2) if name in self._made_turned else tensor)
        return tuple(found)


def _without_autocast(tensor: Tensor) -> AbstractContextManager[Any]:
    """What is made is summed up in the precision that its producer chose; operands are cast already."""
    import torch

    device = tensor.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _meta(tensor: Tensor) -> Tensor:
    import torch

    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other
