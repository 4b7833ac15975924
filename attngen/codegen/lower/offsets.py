"""The added inputs of packed sequences, made from the offsets of a call and kept while those stay the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attngen.codegen.calls.elements import later
from attngen.codegen.calls.guard import Flags, Guard
from attngen.codegen.lower.units import Division
from attngen.codegen.on_device import OnDevice
from attngen.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from attngen.codegen.backend import Call
    from attngen.ir.nodes import Segments

SHOWN = 8
"""Offsets that a message shows at most."""


class PackedInputs:
    """Calls of one set of shapes. `names` are those of the tensor inputs, in their order; `division`: how a backend
    divides its work, which the CPU's does."""

    def __init__(self, space: Segments, names: Sequence[str], call: Call, division: Division | None) -> None:
        self.names = (space.q_offsets, space.k_offsets)
        self.totals = (call.n_q, call.n_k)
        self.device = call.operands[0].device
        places = tuple(names.index(name) for name in self.names)
        given = [call.operands[3 + place].shape[0] for place in places]
        if given[0] != given[1]:
            raise InputError(f"{space.k_offsets}: got {given[1]} entries, {space.q_offsets} has {given[0]}")
        if given[0] < 2:
            raise InputError(f"{space.q_offsets}: got no sequence; offsets hold at least two entries")
        self.sequences, self.division = given[0] - 1, division
        self.guard = Guard(self.names, self._check, self._flags, self.device)
        self.made = OnDevice(self._made, places, (), self.device)
        """For each query token the number of its sequence, begin and end of its queries and of its keys; how many
        sequences; the table of units. Raises `InputError` for offsets that do not rise from 0 to the tokens."""

    def placeholders(self) -> tuple[Tensor, ...]:
        """Tensors of the shapes that a call will have."""
        import torch

        sizes = (*[self.totals[0]] * 5, 1, self._entries())
        return tuple(torch.empty(n, dtype=torch.int32, device=self.device) for n in sizes)

    def _entries(self) -> int:
        return 1 if self.division is None else self.division.most_entries(self.sequences, self.totals[0])

    def _made(self, offsets: list[Tensor], _: tuple[float, ...]) -> tuple[Tensor, ...]:
        import torch

        self.guard(offsets, ())
        q, k = (at.long() for at in offsets)
        tokens = torch.arange(self.totals[0], device=self.device)
        # A token belongs to the first sequence that ends after it.
        number = torch.searchsorted(q[1:].contiguous(), tokens, right=True).clamp_(max=self.sequences - 1)
        each = (number, *(ends[number] for ends in (q[:-1], q[1:], k[:-1], k[1:])))
        count = torch.full((1,), self.sequences, dtype=torch.int32, device=self.device)
        units = torch.zeros(self._entries(), dtype=torch.int32, device=self.device)
        if self.division is not None:
            table = torch.from_numpy(self.division.table(q.numpy(), k.numpy()))
            units[: len(table)] = table
        return (*(t.to(torch.int32) for t in each), count, units)

    def _check(self, offsets: list[Tensor], _: tuple[float, ...]) -> bool:
        for name, at, total in zip(self.names, offsets, self.totals, strict=True):
            if int(at[0]) != 0 or int(at[-1]) != total or bool((at[1:] < at[:-1]).any()):
                raise InputError(f"{name}: offsets must rise from 0 to the {total} tokens, got {_shown(at.tolist())}")
        return True

    def _flags(self, offsets: list[Tensor], _: tuple[float, ...]) -> Flags:
        found: Flags = []
        for name, tensor, total in zip(self.names, offsets, self.totals, strict=True):
            at = later(name, tensor)
            wrong = (at[1:] < at[:-1]) | (at[:1] != 0) | (at[-1:] != total)
            found.append((wrong, f"{name}: offsets must rise from 0 to the {total} tokens"))
        return found


def _shown(numbers: list[Any]) -> str:
    if len(numbers) <= SHOWN:
        return str(numbers)
    half = SHOWN // 2
    return f"[{', '.join(map(str, numbers[:half]))}, ..., {', '.join(map(str, numbers[-half:]))}]"
