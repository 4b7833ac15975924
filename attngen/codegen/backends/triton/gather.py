"""What the host does with the sums of a backward: adds them to the gradients of tensors, always in the same order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.codegen.backends.triton.flows import Flow
from attngen.codegen.backends.triton.parts import Part
from attngen.codegen.calls.shapes import axes_of
from attngen.codegen.derive.fold import fold_int
from attngen.ir.nodes import Paged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from torch import Tensor

    from attngen.codegen.backend import Call
    from attngen.codegen.backends.triton.launch_backward import Grid
    from attngen.codegen.plan import Plan

WORD = 62
"""Bits of an integer sum beside its sign."""


class PartSums:
    """The memory that kernels write one part to: the gradient itself where nothing else adds to it."""

    def __init__(
        self, part: Part, plan: Plan, call: Call, operands: Mapping[str, Tensor], grid: Grid, keys: int
    ) -> None:
        import torch

        self.part = part
        self.tensor = operands[part.view.tensor]
        self.axes = axes_of(call)
        self.space = plan.spec.space if isinstance(plan.spec.space, Paged) else None
        self.paged = self.space is not None and part.keyset == 0 and part.view.tensor in ("k", "v")
        names = [operand.name for operand in plan.problem.operands[3:]]
        self.table = names.index(self.space.table) if self.space is not None else 0
        owners = grid.n_h if part.role == "query" else grid.owners
        tokens = grid.n_q if part.role == "query" else keys
        # Rows of sums begin at multiples of 16 elements, so that they are as aligned as tensors are.
        self.shape = (grid.n_b, owners, tokens, -(-part.width // 16) * 16)
        given = tuple(self.tensor.shape[a] for a in self.axes)
        sizes = {"n_b": grid.n_b, "n_h": grid.n_h, "n_q": grid.n_q, "n_k": keys, "heads": given[1]}
        step = grid.n_h // max(1, owners)
        self.heads = [
            owner * given[1] // owners
            if part.view.head is None
            else min(max(fold_int(part.view.head, sizes | {"h": owner * step}), 0), given[1] - 1)
            for owner in range(owners)
        ]
        self.direct = (
            part.direct
            and not self.paged
            and (*self.shape[:3], part.width) == given
            and self.heads == list(range(owners))
        )
        dtype = self.tensor.dtype if part.direct else torch.float32
        self.dtype, self.device = dtype, call.operands[0].device
        if self.direct:
            steps = torch.empty_like(self.tensor, device="meta").stride()
            self.strides = [steps[a] for a in self.axes]
        else:
            self.strides = list(torch.empty(self.shape, device="meta").stride())

    def new(self) -> Tensor:
        """Memory for one launch."""
        import torch

        if self.direct:
            return torch.empty_like(self.tensor, device=self.device)
        # Keys beyond the length of a batch are written by nobody.
        return torch.zeros(self.shape, dtype=self.dtype, device=self.device)

    def add_to(self, found: dict[str, Tensor], sums: Tensor, inputs: Sequence[Tensor]) -> None:
        """Adds the sums to the gradient of the tensor, in float32 wherever something has to be added."""
        import torch

        name, part = self.part.view.tensor, self.part
        if self.direct:
            found[name] = sums
            return
        if name not in found:
            found[name] = torch.zeros(self.tensor.shape, dtype=torch.float32, device=self.device)
        total = found[name].permute(self.axes)[..., part.start : part.start + part.width]
        sums = sums[..., : part.width].float()
        if self.paged:
            self._add_pages(total, sums, inputs[self.table])
            return
        if total.shape[0] == 1 and self.shape[0] != 1:
            sums = sums.sum(0, keepdim=True)
        for owner, head in enumerate(self.heads):
            total[:, head] += sums[:, owner]

    def _add_pages(self, total: Tensor, sums: Tensor, table: Tensor) -> None:
        """Keys lie in pages, which batches may share."""
        import torch

        assert self.space is not None
        tokens = torch.arange(sums.shape[2], device=self.device)
        # Beyond the length of a batch the table may say anything, and the sums are 0.
        pages = table.long()[:, tokens // self.space.page].clamp(0, total.shape[0] - 1)
        slots = (tokens % self.space.page).expand_as(pages)
        for owner, head in enumerate(self.heads):
            total.select(1, head).index_put_((pages, slots), sums[:, owner], accumulate=True)


class FlowSums:
    """The memory that kernels write one flow to, and how it becomes the gradient of its tensor."""

    def __init__(
        self,
        flow: Flow,
        tensor: Tensor,
        device: torch.device,
        grid: Grid,
        tiles: int,
        width: int,
        counts: Mapping[tuple[int, int], int],
    ) -> None:
        self.flow, self.tensor, self.device, self.grid, self.tiles = flow, tensor, device, grid, tiles
        heads = grid.n_b * grid.n_h
        each = {"tile": tiles, "row": grid.n_q, "key": grid.most_keys, "element": grid.n_q * width}
        self.count = heads * each.get(flow.kind, 0)
        if flow.kind == "pair":
            assert flow.keyset is not None
            pairs = max(1, heads * grid.n_q * counts[flow.branch, flow.keyset])
            # All pairs may add to one element, each at most the largest of them.
            self.bits = WORD - pairs.bit_length()

    def new(self) -> list[Tensor]:
        """Memory for one launch: the pointers that kernels get (flows.py)."""
        import torch

        def zeros(count: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(max(1, count), dtype=dtype, device=self.device)

        if self.flow.kind == "pair":
            peaks = zeros(self.grid.n_b * self.grid.n_h * self.tiles, torch.float32)
            # Without queries nobody settles the scale.
            return [zeros(self.tensor.numel(), torch.int64), peaks, torch.ones(1, device=self.device)]
        return [zeros(self.count, torch.float32), zeros(self.count, torch.int64)]

    def settle(self, pointers: Sequence[Tensor]) -> None:
        """After the second kernel: the power of two that makes integers of the cotangents of pairs."""
        import torch

        if self.flow.kind != "pair":
            return
        peak = pointers[1].amax().double()
        exponent = torch.floor(self.bits - torch.log2(peak)).clamp(-126, 126)
        # A number that is not finite makes all of the gradient NaN: integers cannot hold it.
        scale = torch.where(peak > 0, torch.exp2(exponent), torch.ones_like(peak))
        pointers[2].copy_(torch.where(peak.isfinite(), scale, torch.full_like(peak, float("nan"))))

    def add_to(self, found: dict[str, Tensor], pointers: Sequence[Tensor]) -> None:
        """Adds what came to the gradient of the tensor."""
        import torch

        name = self.flow.load.tensor
        if self.flow.kind == "pair":
            table, _, scale = pointers
            part = (table.double() / scale.double()).reshape(-1)[: self.tensor.numel()]
        else:
            values, places = pointers
            part = torch.zeros(max(1, self.tensor.numel()), dtype=torch.float64, device=self.device)
            part = part.index_put_((places,), values.double(), accumulate=True)[: self.tensor.numel()]
        part = part.reshape(self.tensor.shape)
        found[name] = found[name].double() + part if name in found else part
