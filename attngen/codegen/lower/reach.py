"""Which keys the states of linear attention sum up: all, those of some classes of blocks, or the earlier chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attngen.codegen.lower.produced import Extents, Numbers, Produced, Tensors, indexed, placeholder
from attngen.errors import InputError
from attngen.ir.expr import Expr

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 64
"""Queries and keys of a chunk of causal linear attention: within one, pairs are looked at one by one."""

SHUT = {"float32": -110.0, "float64": -800.0}
"""A log decay below this shuts: exp of it is 0, so that a row which sees nothing else has no mass; and differences of
sums of a few such decays still tell the others apart."""

TOGETHER = 256
"""Chunks whose states are summed up by one matrix product."""


@dataclass(frozen=True, slots=True)
class Everything:
    """Every key, the same state for all queries."""

    key_block: int | None = None

    def count(self, tensors: Tensors, extents: Extents) -> int:
        return 1

    def used(self, tensors: Tensors, blocks: int, extents: Extents) -> Tensor | None:
        return None

    def faded(self, phi: Tensor, tensors: Tensors, block: int) -> Tensor:
        return phi

    def summed(self, states: Tensor, tensors: Tensors, extents: Extents) -> Tensor:
        return states.sum(2, keepdim=True)


@dataclass(frozen=True, slots=True)
class Classed:
    """The blocks of keys whose class meets a condition: a product of a table of 0 and 1 with the states.

    `classes` names the table, and `condition` reads its entries as the symbol x.
    """

    classes: str
    condition: Expr
    key_block: int | None

    def count(self, tensors: Tensors, extents: Extents) -> int:
        return tensors[self.classes].shape[2]

    def used(self, tensors: Tensors, blocks: int, extents: Extents) -> Tensor | None:
        from attngen.codegen.lower.eager import holds

        return holds(tensors[self.classes], self.condition).any(2)

    def faded(self, phi: Tensor, tensors: Tensors, block: int) -> Tensor:
        return phi

    def summed(self, states: Tensor, tensors: Tensors, extents: Extents) -> Tensor:
        from attngen.codegen.lower.eager import holds

        return weighted(holds(tensors[self.classes], self.condition).to(states.dtype), states)


@dataclass(frozen=True, slots=True)
class Earlier:
    """The chunks before that of the query. `decay` names the sums of log decays within each chunk, or None."""

    decay: str | None = None
    key_block: int | None = CHUNK

    def count(self, tensors: Tensors, extents: Extents) -> int:
        return -(-extents.n_q // CHUNK)

    def used(self, tensors: Tensors, blocks: int, extents: Extents) -> Tensor | None:
        import torch

        return torch.arange(blocks)[None, None] < self.count(tensors, extents) - 1

    def faded(self, phi: Tensor, tensors: Tensors, block: int) -> Tensor:
        if self.decay is None:
            return phi
        sums = self._within(tensors, phi.shape[2], block)
        return phi * (sums[..., -1:] - sums).exp()[..., None].to(phi.dtype)

    def summed(self, states: Tensor, tensors: Tensors, extents: Extents) -> Tensor:
        import torch

        wide = torch.promote_types(states.dtype, torch.float32)
        if self.decay is None:
            total = states.cumsum(2, dtype=wide)
        else:
            ends = self._within(tensors, states.shape[2], CHUNK)[..., -1]
            total = decayed_sums(states.to(wide), ends)
        total = torch.cat([total.new_zeros(*total.shape[:2], 1, total.shape[3]), total], 2)
        # Queries beyond the last key see all of them.
        chunks = self.count(tensors, extents)
        beyond = total[:, :, -1:].expand(-1, -1, max(0, chunks - total.shape[2]), -1)
        return torch.cat([total[:, :, :chunks], beyond], 2)

    def _within(self, tensors: Tensors, chunks: int, block: int) -> Tensor:
        """The sums of log decays of each chunk (B, n_h, chunks, block); what fills up the last one adds nothing."""
        import torch

        assert self.decay is not None
        sums = tensors[self.decay]
        missing = chunks * block - sums.shape[2]
        padded = torch.cat([sums, sums[..., -1:].expand(-1, -1, missing)], 2) if missing else sums
        return padded.reshape(*padded.shape[:2], chunks, block)


def weighted(weights: Tensor, states: Tensor) -> Tensor:
    """weights @ states, in which a state that is not finite reaches nothing through a weight of 0."""
    import torch

    if states.device.type == "cpu":
        if bool(states.sum().isfinite()):
            return weights @ states
        rows = [torch.where(row[..., None] != 0, row[..., None] * states, 0.0).sum(2) for row in weights.unbind(2)]
        return torch.stack(rows, 2)
    # To look would be to wait for the device: there such a state makes all of its sums NaN.
    odd = (~states.isfinite()).any(-1, keepdim=True)
    met = (weights != 0).to(states.dtype) @ odd.to(states.dtype) > 0
    return torch.where(met, torch.nan, weights @ torch.where(odd, 0.0, states))


def decayed_sums(states: Tensor, decays: Tensor) -> Tensor:
    """For each chunk, the sum of its state (B, H, chunks, X) and of earlier ones, each faded by what came since.

    `decays` (B, H, chunks): the sum of the log decays of each chunk.
    """
    import torch

    found: list[Tensor] = []
    for start in range(0, max(1, states.shape[2]), TOGETHER):
        part, steps = (t[:, :, start : start + TOGETHER] for t in (states, decays))
        sums = steps.double().cumsum(2)
        # The upper triangle would grow: it is none of the sum, and stays out of its gradient.
        lower = torch.ones(sums.shape[2], sums.shape[2], dtype=torch.bool, device=sums.device).tril()
        gap = torch.where(lower, sums[..., :, None] - sums[..., None, :], -torch.inf)
        total = weighted(gap.exp().to(part.dtype), part)
        if found:
            total = total + sums.exp().to(part.dtype)[..., None] * found[-1][:, :, -1:]
        found.append(total)
    return torch.cat(found, 2)


@dataclass(frozen=True, slots=True)
class DecaySums:
    """The sums of log decays from the start of the chunk of each token up to it, (B, n_h, N)."""

    name: str
    decay: str
    dtype: str

    @property
    def made(self) -> tuple[Produced, ...]:
        return (indexed(self.name, ("b", "h", "?"), self.dtype),)

    def make(self, tensors: Tensors, numbers: Numbers, extents: Extents) -> tuple[Tensor, ...]:
        import torch
        from torch.nn.functional import pad

        decay = tensors[self.decay].to(getattr(torch, self.dtype)).clamp(min=SHUT[self.dtype])
        decay = decay.expand(extents.n_b, extents.n_h, -1)
        n = decay.shape[2]
        chunks = pad(decay, (0, -n % CHUNK)).reshape(extents.n_b, extents.n_h, -(-n // CHUNK), CHUNK)
        return (chunks.cumsum(3).flatten(2)[..., :n].contiguous(),)

    def placeholders(self, tensors: Tensors, extents: Extents) -> tuple[Tensor, ...]:
        import torch

        n = tensors[self.decay].shape[2]
        if not n == extents.n_q == extents.n_k:
            raise InputError(
                f"{self.decay}: got {n} decays for {extents.n_q} queries and {extents.n_k} keys; all are equal"
            )
        return (placeholder((extents.n_b, extents.n_h, n), getattr(torch, self.dtype)),)
