"""Linear attention by states: sums of phi(k) v over blocks of keys, in place of the keys themselves.

sum_j (phi(q) . phi(k_j)) v_j = sum_d phi(q)_d S_d with S_d = sum_j phi(k_j)_d v_j: whatever block of queries it is for,
a sum over keys becomes one over the D channels of phi. To the loop these are D virtual keys for each block: their key
vectors are the unit vectors, so that scores are phi(q)_d, times z_d = sum_j phi(k_j)_d where the mass is wanted; and
their values are S_d / z_d, means of v that lose nothing in half precision. In float16, where sums over many keys have
no place, scores are also divided by the greatest sum of the head, and what comes out is multiplied by it. Source:
Transformers are RNNs, arXiv 2006.16236; block states: SLA, arXiv 2509.24006.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from attngen.codegen.lower.produced import (
    Extents,
    Numbers,
    Produced,
    Tensors,
    at_heads,
    heads_of,
    indexed,
    placeholder,
    viewed,
)
from attngen.codegen.lower.projections import check_rows
from attngen.codegen.problem import Operand
from attngen.ir.nodes import Input, View

if TYPE_CHECKING:
    from torch import Tensor


class Reach(Protocol):
    """Which blocks of keys the state of each block of queries sums up."""

    @property
    def key_block(self) -> int | None:
        """The keys of a block; None: all of them."""
        ...

    def used(self, tensors: Tensors, blocks: int, extents: Extents) -> Tensor | None:
        """Which blocks of keys (B or 1, n_h or 1, blocks) enter any sum; None: all. Asked for on CPUs only."""
        ...

    def faded(self, phi: Tensor, tensors: Tensors, block: int) -> Tensor:
        """phi(k) (B, n_h, blocks, block, D), faded towards the end of its block."""
        ...

    def count(self, tensors: Tensors, extents: Extents) -> int:
        """How many blocks of queries have a state."""
        ...

    def summed(self, states: Tensor, tensors: Tensors, extents: Extents) -> Tensor:
        """Sums for every block of queries from the states (B, n_h, key blocks, X) of blocks of keys."""
        ...


@dataclass(frozen=True, slots=True)
class Names:
    """The made tensors of one branch: unit vectors, values and, where the mass is wanted, sums of phi(k).

    `size`: the number of each head that scores are divided by; then there are `masses` too, and without a mass these
    are sums of |phi(k)|, which weigh the channels.
    """

    units: str
    values: str
    masses: str | None
    size: str | None = None


@dataclass(frozen=True, slots=True)
class States:
    """The virtual keys of one branch, D for each block of queries. `k` and `v` are read as their views say, between
    these channels; `weight` names a projection (Dv, Do) of the values."""

    names: Names
    reach: Reach
    k: View
    k_extent: tuple[int, int]
    v: View
    v_extent: tuple[int, int]
    weight: str | None
    width: int
    dtype: str
    has_mass: bool

    @property
    def channels(self) -> int:
        return self.k_extent[1] - self.k_extent[0]

    @property
    def made(self) -> tuple[Produced, ...]:
        names = self.names
        found: tuple[Produced, ...] = (
            viewed(names.units, "?", self.dtype, self.channels),
            viewed(names.values, "?", self.dtype, self.width),
        )
        if names.masses is None:
            return found
        wide = "float64" if self.dtype == "float64" else "float32"
        found = (*found, indexed(names.masses, ("b", "h", "?"), wide))
        if names.size is None:
            return found
        return (*found, Produced(Input(names.size, ("b", "h")), Operand(names.size, wide, 2, 0)))

    def make(self, tensors: Tensors, numbers: Numbers, extents: Extents) -> tuple[Tensor, ...]:
        import torch

        k, v = tensors[self.k.tensor], tensors[self.v.tensor]
        k_heads, v_heads = (heads_of(view, t.shape[1], extents.n_h) for view, t in ((self.k, k), (self.v, v)))
        wide = torch.promote_types(v.dtype, torch.float32)
        # Few CPUs multiply matrices of half precision well, and sums over many keys have no place in float16.
        work = wide if v.device.type == "cpu" or v.dtype == torch.float16 else v.dtype
        phi = blocks_of(at_heads(k[..., slice(*self.k_extent)].to(work), k_heads), self.reach.key_block)
        values = blocks_of(at_heads(v[..., slice(*self.v_extent)].to(work), v_heads), self.reach.key_block)
        # Elsewhere to look would be to wait for the device.
        if v.device.type == "cpu" and not bool((phi.sum() + values.sum()).isfinite()):
            used = self.reach.used(tensors, phi.shape[2], extents)
            if used is not None:
                phi, values = (torch.where(used[..., None, None], t, 0.0) for t in (phi, values))
        phi = self.reach.faded(phi, tensors, phi.shape[3])
        states = (phi.mT @ values).flatten(3)
        sums = self.reach.summed(states.expand(extents.n_b, *states.shape[1:]), tensors, extents)
        sums = sums.reshape(*sums.shape[:2], sums.shape[2] * self.channels, values.shape[-1])
        masses = None
        if self.names.masses is not None:
            totals = (phi if self.has_mass else phi.detach().abs()).sum(3, dtype=wide)
            masses = self.reach.summed(totals.expand(extents.n_b, *totals.shape[1:]), tensors, extents).flatten(2)
            nothing = masses == 0
            scaled = sums.to(wide) / torch.where(nothing, 1.0, masses)[..., None]
            sums = torch.where(nothing[..., None], 0.0, scaled).to(work)
        if self.weight is not None:
            sums = sums @ tensors[self.weight].to(sums.dtype)
        # The same unit vectors again and again; one batch and one head serve all.
        units = torch.eye(self.channels, dtype=v.dtype, device=v.device).repeat(sums.shape[2] // self.channels, 1)
        found = (units[None, None], sums.to(v.dtype).contiguous())
        if masses is None:
            return found
        if self.names.size is None:
            return (*found, masses.to(wide).contiguous())
        size = _greatest(masses.detach().to(wide))
        return (*found, (masses.to(wide) / size[..., None]).contiguous(), size)

    def placeholders(self, tensors: Tensors, extents: Extents) -> tuple[Tensor, ...]:
        import torch

        if self.weight is not None:
            check_rows(self.weight, tensors, self.v_extent[1] - self.v_extent[0])
        dtype = tensors[self.v.tensor].dtype
        keys = self.reach.count(tensors, extents) * self.channels
        outer = extents.n_b, extents.n_h, keys
        found = placeholder((1, 1, keys, self.channels), dtype), placeholder((*outer, self.width), dtype)
        wide = torch.promote_types(dtype, torch.float32)
        more = [outer] * (self.names.masses is not None) + [outer[:2]] * (self.names.size is not None)
        return (*found, *(placeholder(shape, wide) for shape in more))


def _greatest(masses: Tensor) -> Tensor:
    """The greatest size of each head (B, n_h), 1 at least; what is not finite stays with the rows that see it."""
    import torch

    if masses.shape[2] == 0:
        return masses.new_ones(masses.shape[:2])
    return torch.where(masses.isfinite(), masses.abs(), 0.0).amax(2).clamp(min=1.0)


def blocks_of(tokens: Tensor, block: int | None) -> Tensor:
    """(B, H, blocks, block, channels), the last one filled up with zeros."""
    from torch.nn.functional import pad

    n = tokens.shape[2]
    block = max(1, n) if block is None else block
    missing = -n % block
    if missing:
        tokens = pad(tokens, (0, 0, 0, missing))
    return tokens.reshape(*tokens.shape[:2], tokens.shape[2] // block, block, tokens.shape[3])
